"""Whose key signs, and where it is."""

from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_serializer, field_validator, model_validator

from keeper.address import EvmAddress
from keeper.config.fields import UserPath
from keeper.config.table import Table


class Wallet(Table):
    """The operator's key: a keystore file, a web3signer, or a plug-in; secrets come by reference."""

    keystore: UserPath | None = None
    password_file: UserPath | None = None
    password_env: str | None = None
    remote_url: SecretStr | None = None
    signer: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    address: EvmAddress | None = None

    @field_validator("remote_url")
    @classmethod
    def _url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url.get_secret_value())
            valid = bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid, parts = False, urlsplit("")
        if not valid or parts.scheme not in {"http", "https"}:
            raise ValueError("must be a URL such as https://user:password@host:9000")
        local = {"localhost", "127.0.0.1", "::1"}
        if parts.scheme == "http" and parts.username and parts.hostname not in local:
            raise ValueError("sends a password unencrypted: use https")
        return url

    @field_serializer("remote_url")
    def _hide(self, url: SecretStr | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url.get_secret_value())
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}/…"

    @field_serializer("options")
    def _hide_options(self, options: dict[str, Any]) -> dict[str, str]:
        return dict.fromkeys(options, "…")

    @model_validator(mode="after")
    def _one_signer(self) -> Self:
        ways = {"keystore": self.keystore, "remote_url": self.remote_url, "signer": self.signer}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                "takes exactly one of keystore, remote_url and signer, "
                + (f"not {' and '.join(given)}" if given else "and has none")
            )
        if self.password_file is not None and self.password_env is not None:
            raise ValueError("takes one of password_file and password_env, not both")
        if self.keystore is None and (self.password_file or self.password_env) is not None:
            raise ValueError(f"has a password for a keystore, and uses {given[0]}")
        if self.signer is None and self.options:
            raise ValueError(f"has options for a signer plug-in, and uses {given[0]}")
        if self.keystore is None and self.address is None:
            raise ValueError(f"needs address: the account {given[0]} signs for")
        return self
