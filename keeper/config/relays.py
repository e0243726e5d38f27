"""Who transactions are handed to past the public pool, and how to prove who we are."""

import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_serializer, field_validator, model_validator

from keeper.config.table import Table

_KEY = re.compile(r"(?:0x)?[0-9a-fA-F]{64}")
_HEADER = re.compile(r"[\x20-\x7e]+")
Hint = Literal[
    "calldata", "contract_address", "logs", "function_selector", "hash", "tx_hash", "full"
]
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class RelayTable(Table):
    """One relay or builder; `blocks` is for how many a transaction is given to it at a time.

    `identity` is the key that signs requests, never a wallet's; `authorization` is sent as the header
    of that name. Both come by reference: "file:PATH" or "${NAME}". `hints` and `builders` are for shared
    bundles: what others may see of ours, and who builds with it beside the relay's own.
    """

    kind: Literal["bundle", "shared-bundle", "private-transaction", "private-raw-transaction"]
    url: SecretStr
    identity: SecretStr | None = None
    authorization: SecretStr | None = None
    blocks: int = Field(default=3, ge=1, le=25)
    hints: tuple[Hint, ...] = ()
    builders: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("hints", "builders"):
            if getattr(self, name) and self.kind != "shared-bundle":
                raise ValueError(f"{name} are of use to kind = 'shared-bundle' alone")
        return self

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
