"""Who transactions are handed to past the public pool, and how to prove who we are."""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_serializer, field_validator

from keeper.config.table import Table

_KEY = re.compile(r"(?:0x)?[0-9a-fA-F]{64}")
_HEADER = re.compile(r"[\x20-\x7e]+")
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class RelayTable(Table):
    """One relay or builder; `blocks` is for how many a transaction is given to it at a time.

    `identity` is the key that signs requests, never a wallet's; `authorization` is sent as the header
    of that name. Both come by reference: "file:PATH" or "${NAME}".
    """

    kind: Literal["bundle", "private-transaction", "private-raw-transaction"]
    url: SecretStr
    identity: SecretStr | None = None
    authorization: SecretStr | None = None
    blocks: int = Field(default=3, ge=1, le=25)

    @field_validator("url")
    @classmethod
    def _has_host(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value().strip()
        try:
            parts = urlsplit(text)
            valid = bool(parts.hostname) and parts.port != 0 and parts.scheme in {"http", "https"}
        except ValueError:
            valid, parts = False, urlsplit("")
        if not valid:
            raise ValueError("must be a URL such as https://relay.example")
        if parts.scheme == "http" and parts.hostname not in _LOCAL:
            raise ValueError("sends private transactions unencrypted: use https")
        return SecretStr(text)

    @field_validator("identity")
    @classmethod
    def _is_key(cls, identity: SecretStr | None) -> SecretStr | None:
        if identity is not None and not _KEY.fullmatch(identity.get_secret_value()):
            raise ValueError("is no private key: 64 hexadecimal digits are wanted")
        return identity

    @field_validator("authorization")
    @classmethod
    def _is_header(cls, text: SecretStr | None) -> SecretStr | None:
        if text is not None and not _HEADER.fullmatch(text.get_secret_value()):
            raise ValueError("is no header: one line of plain characters is wanted")
        return text

    @field_serializer("url")
    def _hide(self, url: SecretStr) -> str:
        parts = urlsplit(url.get_secret_value())
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}/…"

    @field_serializer("identity", "authorization")
    def _hide_secret(self, secret: SecretStr | None) -> str | None:
        return None if secret is None else "…"
