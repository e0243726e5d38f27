"""Whom the keeper tells of things, and through what."""

from datetime import time
from typing import Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, field_serializer, field_validator, model_validator

from keeper.config.table import Table

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class ChannelTable(Table):
    """One way to reach somebody: a `webhook` that takes JSON, or any `apprise` URL.

    `secret` signs a webhook's messages. URL and secret come by reference: "file:PATH" or "${NAME}".
    In `quiet` hours ("22:00-07:00" in `timezone`) only what is critical is sent; the rest waits.
    """

    kind: Literal["webhook", "apprise"]
    url: SecretStr
    secret: SecretStr | None = None
    quiet: str | None = None
    timezone: str = "UTC"

    @field_validator("url")
    @classmethod
    def _has_scheme(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value().strip()
        if "://" not in text:
            raise ValueError("must be a URL such as https://host/path or tgram://token/chat")
        return SecretStr(text)

    @field_validator("quiet")
    @classmethod
    def _is_span(cls, quiet: str | None) -> str | None:
        if quiet is not None:
            begin, end = _span(quiet)
            if begin == end:
                raise ValueError("is the whole day: nothing but what is critical would be told")
        return quiet

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"names no time zone: {name[:40]!r}") from None
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "apprise":
            if self.secret is not None:
                raise ValueError("secret is of use to kind = 'webhook' alone")
            return self
        try:
            parts = urlsplit(self.url.get_secret_value())
            valid = bool(parts.hostname) and parts.port != 0 and parts.scheme in {"http", "https"}
        except ValueError:
            valid, parts = False, urlsplit("")
        if not valid:
            raise ValueError("url must be a URL such as https://host/path for a webhook")
        if parts.scheme == "http" and parts.hostname not in _LOCAL:
            raise ValueError("url would send positions unencrypted: use https")
        if self.secret is None or len(self.secret.get_secret_value()) < 16:
            raise ValueError("secret of 16 characters or more is wanted: it signs what is sent")
        return self

    @property
    def hours(self) -> tuple[time, time] | None:
        """Return when quiet hours begin and end."""
        return None if self.quiet is None else _span(self.quiet)

    @field_serializer("url")
    def _hide(self, url: SecretStr) -> str:
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in {"http", "https"}:
            return f"{parts.scheme}://…"
        return f"{parts.scheme}://{parts.hostname}/…"

    @field_serializer("secret")
    def _hide_secret(self, secret: SecretStr | None) -> str | None:
        return None if secret is None else "…"


class Notify(Table):
    """Channels, and which of them hear of the keeper's own events.

    One event is told again after `repeat_minutes` at the earliest. At `digest` ("08:00", UTC) one
    message says how all that is watched stands. What a day brought, `events` hear at its end (UTC).
    """

    channels: dict[str, ChannelTable] = Field(default_factory=dict)
    events: tuple[str, ...] = ()
    repeat_minutes: int = Field(default=60, ge=1)
    digest: str | None = None

    @field_validator("channels")
    @classmethod
    def _named(cls, channels: dict[str, ChannelTable]) -> dict[str, ChannelTable]:
        for name in channels:
            if not (name.replace("-", "").replace("_", "").isalnum() and name == name.lower()):
                raise ValueError(f"{name!r} must be a short name of a-z, 0-9, _ and -")
        return channels

    @field_validator("digest")
    @classmethod
    def _is_time(cls, digest: str | None) -> str | None:
        if digest is not None:
            _time(digest)
        return digest

    @model_validator(mode="after")
    def _known(self) -> Self:
        self.check("events", self.events)
        return self

    @property
    def digest_time(self) -> time | None:
        """Return when the digest is sent."""
        return None if self.digest is None else _time(self.digest)

    def check(self, key: str, names: tuple[str, ...]) -> None:
        """Raise `ValueError` for a name that is no channel."""
        for name in names:
            if name not in self.channels:
                known = ", ".join(sorted(self.channels)) or "none is configured"
                raise ValueError(f"{key} names {name!r}, which is no channel here ({known})")


def _span(text: str) -> tuple[time, time]:
    begin, dash, end = text.partition("-")
    if not dash:
        raise ValueError('must be two times such as "22:00-07:00"')
    return _time(begin.strip()), _time(end.strip())


def _time(text: str) -> time:
    try:
        found = time.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None:
        raise ValueError(f'has {text[:20]!r} where a time such as "08:00" is wanted')
    return found
