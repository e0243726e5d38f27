"""The schema of `keeper.toml`: every option once, with its default; nothing else reads options."""

import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_serializer,
    field_validator,
    model_validator,
)

from keeper.chain.multicall import MULTICALL3
from keeper.config.fields import (
    Endpoint,
    EtherAmount,
    EvmAddress,
    GweiAmount,
    UsdAmount,
    UserPath,
    scale,
)
from keeper.journal.home import home_path
from keeper.units import Usd, Wei

TRANSACTION_GAS_CAP = 16_777_216
"""EIP-7825: no transaction may ask for more gas."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
"""A table's own name; it becomes a metric label."""


def _home() -> Path:
    return home_path(os.environ)


class Table(BaseModel):
    """A table of the file: closed, frozen, and silent about values in its errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Http(Table):
    """Where metrics and status are served; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = Field(default=9464, ge=0, le=65535)


class Journal(Table):
    """The durable record."""

    home: UserPath = Field(default_factory=_home)
    keep_days: int = Field(default=90, ge=1)
    snapshot_minutes: int = Field(default=15, ge=1)

    @field_validator("home", mode="before")
    @classmethod
    def _default_when_empty(cls, value: object) -> object:
        return _home() if value == "" else value


class Logging(Table):
    """How much is logged and in which form; `auto` is for people on a terminal, else JSON."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Limits(Table):
    """What the keeper never exceeds, whatever a strategy says."""

    minimum_profit_usd: UsdAmount = Field(default=Decimal(5), gt=0)
    largest_repay_usd: UsdAmount = Field(default=Decimal(1_000_000), gt=0)
    gas_ether_per_transaction: EtherAmount = Field(default=Decimal("0.05"), gt=0)
    gas_ether_per_day: EtherAmount = Field(default=Decimal("0.5"), gt=0)
    stop_after_reverts: int = Field(default=3, ge=1)
    kill_file: UserPath = Path("KILL")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.gas_ether_per_transaction > self.gas_ether_per_day:
            raise ValueError("gas_ether_per_transaction is more than gas_ether_per_day")
        if self.minimum_profit_usd > self.largest_repay_usd:
            raise ValueError("minimum_profit_usd is more than largest_repay_usd")
        return self

    @property
    def minimum_profit(self) -> Usd:
        """Return the least profit of a liquidation after all costs."""
        return Usd(scale(self.minimum_profit_usd, 8))

    @property
    def largest_repay(self) -> Usd:
        """Return the most repaid in one transaction."""
        return Usd(scale(self.largest_repay_usd, 8))

    @property
    def gas_wei_per_transaction(self) -> Wei:
        """Return the most one transaction's gas may cost."""
        return Wei(scale(self.gas_ether_per_transaction, 18))

    @property
    def gas_wei_per_day(self) -> Wei:
        """Return the most the gas of one day may cost."""
        return Wei(scale(self.gas_ether_per_day, 18))


class Audit(Table):
    """How often the book is compared with the chain, and how many of each kind at a time."""

    heads: int = Field(default=50, ge=1)
    sample: int = Field(default=20, ge=1)


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


class Fees(Table):
    """EIP-1559 fees and the gas one batch may use."""

    max_fee_gwei: GweiAmount = Field(default=Decimal(200), gt=0)
    priority_fee_gwei: GweiAmount = Field(default=Decimal("0.1"), ge=0)
    gas_cap: int = Field(default=15_000_000, ge=100_000, le=TRANSACTION_GAS_CAP)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.priority_fee_gwei > self.max_fee_gwei:
            raise ValueError("priority_fee_gwei is more than max_fee_gwei")
        return self

    @property
    def max_fee(self) -> Wei:
        """Return the most paid per gas, in wei."""
        return Wei(scale(self.max_fee_gwei, 9))

    @property
    def priority_fee(self) -> Wei:
        """Return the usual priority fee per gas, in wei."""
        return Wei(scale(self.priority_fee_gwei, 9))


class Market(Table):
    """One market of one lending protocol."""

    protocol: str
    pool: EvmAddress
    first_block: int = Field(default=0, ge=0)


class Venue(Table):
    """One exchange collateral can be sold on; `hubs` are tokens routes may pass through."""

    venue: str
    factory: EvmAddress
    fees: tuple[int, ...] = (100, 500, 3000, 10000)
    hubs: tuple[EvmAddress, ...] = ()


class Chain(Table):
    """One chain: how to reach it, what to pay with, what to watch."""

    chain_id: int = Field(ge=1)
    endpoints: Annotated[tuple[Endpoint, ...], Field(min_length=1)]
    contract: EvmAddress | None = None
    wrapped_native: EvmAddress | None = None
    multicall: EvmAddress = Field(default_factory=lambda: MULTICALL3)
    block_time: int = Field(default=12, ge=1)
    poll_seconds: float = Field(default=1.0, gt=0)
    allowed_lag: int = Field(default=2, ge=0)
    trust_bloom: bool = True
    wallet: Wallet | None = None
    fees: Fees = Fees()
    markets: dict[Name, Market] = Field(default_factory=dict)
    venues: dict[Name, Venue] = Field(default_factory=dict)

    @field_validator("endpoints")
    @classmethod
    def _distinct(cls, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        seen: dict[str, int] = {}
        named = []
        for endpoint in endpoints:
            count = seen[endpoint.alias] = seen.get(endpoint.alias, 0) + 1
            alias = f"{endpoint.alias}#{count}" if count > 1 else endpoint.alias
            named.append(endpoint.model_copy(update={"alias": alias}))
        return tuple(named)


class StrategyTable(BaseModel):
    """One instance of a strategy; what is not named here belongs to the strategy's own `Config`."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    use: str
    chains: frozenset[str] | None = None
    protocols: frozenset[str] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Return the strategy's own options, not yet validated."""
        return dict(self.model_extra or {})


class Settings(Table):
    """Everything an operator can say."""

    mode: Literal["dry", "live"] = "dry"
    http: Http = Http()
    journal: Journal = Field(default_factory=Journal)
    log: Logging = Logging()
    limits: Limits = Limits()
    audit: Audit = Audit()
    chains: dict[Name, Chain] = Field(default_factory=dict)
    strategies: dict[Name, StrategyTable] = Field(
        default_factory=lambda: {"profitability": StrategyTable(use="profitability")}
    )

    @model_validator(mode="after")
    def _known_chains(self) -> Self:
        for name, strategy in self.strategies.items():
            for chain in sorted((strategy.chains or frozenset()) - self.chains.keys()):
                raise ValueError(
                    f"strategies.{name}.chains names {chain!r}, which is no chain here"
                )
        return self

    @property
    def kill_file(self) -> Path:
        """Return the file whose existence stops sending; a bare name stands in the home folder."""
        return self.journal.home / self.limits.kill_file

    @property
    def journal_file(self) -> Path:
        """Return the journal's database."""
        return self.journal.home / "journal.sqlite"
