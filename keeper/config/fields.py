"""Field types of the configuration: addresses, exact amounts, endpoints that hide their keys."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_serializer,
    field_validator,
    model_validator,
)

SCHEMES = ("ws", "wss", "http", "https")


def scale(value: Decimal, decimals: int) -> int:
    """Return a decimal amount in its smallest unit, exactly; the field forbids finer digits."""
    return int(value.scaleb(decimals))


def _no_finer(decimals: int, unit: str) -> AfterValidator:
    def check(value: Decimal) -> Decimal:
        if value != round(value, decimals):
            raise ValueError(f"has more than {decimals} decimals of {unit}")
        return value

    return AfterValidator(check)


# 10**15 dollars or ether is past anything real and keeps every scaled value within Decimal's digits
_Amount = Annotated[Decimal, Field(lt=10**15, allow_inf_nan=False)]
UsdAmount = Annotated[_Amount, _no_finer(8, "a dollar")]
EtherAmount = Annotated[_Amount, _no_finer(18, "an ether")]
GweiAmount = Annotated[_Amount, _no_finer(9, "a gwei")]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]


class Endpoint(BaseModel):
    """One JSON-RPC endpoint; the URL may hold an API key, so only the alias is ever shown."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: SecretStr
    alias: str = Field(default="", pattern=r"^[A-Za-z0-9_.:#-]{0,64}$")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"url": value} if isinstance(value, str) else value

    @field_validator("url")
    @classmethod
    def _has_host(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value().strip()
        try:
            parts = urlsplit(text)
            valid = bool(parts.hostname) and parts.port != 0 and parts.scheme in SCHEMES
        except ValueError:
            valid = False
        if not valid:
            raise ValueError("must be a URL such as wss://host/key (ws, wss, http or https)")
        return SecretStr(text)

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.alias:
            return self
        return self.model_copy(update={"alias": self.host})

    @property
    def host(self) -> str:
        """Return host and port, without user, path or query."""
        parts = urlsplit(self.url.get_secret_value())
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    @property
    def is_socket(self) -> bool:
        """Return whether the endpoint is a WebSocket."""
        return urlsplit(self.url.get_secret_value()).scheme in {"ws", "wss"}

    @field_serializer("url")
    def _hide(self, url: SecretStr) -> str:
        return f"{urlsplit(url.get_secret_value()).scheme}://{self.host}/…"
