"""Ask a running keeper over HTTP; the standard library suffices and starts fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from keeper.errors import ConfigError, TransientError

if TYPE_CHECKING:
    from pathlib import Path

Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Where the keeper serves; default from the configuration."
    ),
]


def address_of(url: str | None, configs: list[Path], overrides: list[str]) -> str:
    """Return the base URL of the keeper to ask."""
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError("--url must start with http:// or https://", "--url http://host:9464")
        return url.rstrip("/")
    from keeper.cli.options import settings_from

    http = settings_from(configs, overrides).settings.http
    if http.port == 0:
        raise ConfigError("http.port is 0, so any port may be the keeper's", "give --url")
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(http.host, http.host)  # noqa: S104
    return f"http://{host}:{http.port}"


def fetch(base: str, page: str) -> tuple[int, Any]:
    """Return status code and JSON of a page; raise `TransientError` when nobody answers."""
    import json
    import urllib.error
    import urllib.request

    request = urllib.request.Request(base + page, headers={"Accept": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            try:
                return error.code, json.load(error)
            except ValueError:
                raise TransientError(f"{base}{page} answers {error.code}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise TransientError(f"no keeper answers at {base} ({reason})") from None
