"""Keep an endpoint's URL out of every text that leaves the endpoint."""

import os
from urllib.parse import parse_qsl, urlsplit

import aiohttp

_SHORTEST = 8


class SecretUrl:
    """Hold a URL whose path, query or user may be a key; only `reveal` gives it away."""

    __slots__ = ("_parts", "_url")

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        parts = [url, split.netloc, split.username or "", split.password or ""]
        parts += [split.path, *split.path.split("/")]
        parts += [split.query, *(value for _, value in parse_qsl(split.query))]
        self._url = url
        self._parts = sorted((p for p in set(parts) if len(p) >= _SHORTEST), key=len, reverse=True)

    def __repr__(self) -> str:
        return "SecretUrl(***)"

    @property
    def scheme(self) -> str:
        """Return the scheme alone."""
        return urlsplit(self._url).scheme

    def reveal(self) -> str:
        """Return the URL, for the one place that opens the connection."""
        return self._url

    def redact(self, text: str) -> str:
        """Replace every part of the URL that could be a key."""
        for part in self._parts:
            text = text.replace(part, "***")
        return text


def reason(error: BaseException) -> str:
    """Say why a connection failed; an exception's own text may hold the URL."""
    match error:
        case aiohttp.WSServerHandshakeError():
            return f"HTTP {error.status}"
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno
            return os.strerror(number) if number else type(error.os_error).__name__
        case _:
            return type(error).__name__
