"""The schema of `keeper.toml`: every option once, with its default; nothing else reads options."""

import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from keeper.address import EvmAddress
from keeper.chain.multicall import MULTICALL3
from keeper.config.block_time import default_block_time
from keeper.config.fields import (
    Endpoint,
    GweiAmount,
    UserPath,
    scale,
)
from keeper.config.inclusion import default_inclusion
from keeper.config.inventory import InventoryTable
from keeper.config.limits import Breakers, Limits, Permitted
from keeper.config.margin import Margin
from keeper.config.notify import Notify
from keeper.config.relays import RelayTable
from keeper.config.routing import Routing
from keeper.config.table import Table
from keeper.config.treasury import Treasury
from keeper.config.wallet import Wallet
from keeper.fees import Inclusion
from keeper.journal.home import home_path
from keeper.units import Wei

TRANSACTION_GAS_CAP = 16_777_216
"""EIP-7825: no transaction may ask for more gas."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
"""A table's own name; it becomes a metric label."""


def _home() -> Path:
    return home_path(os.environ)


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


class Audit(Table):
    """How often the book is compared with the chain, and how many of each kind at a time."""

    heads: int = Field(default=50, ge=1)
    sample: int = Field(default=20, ge=1)


class Fees(Table):
    """EIP-1559 fees, the gas one batch may use, and when more is offered for what waits.

    `replacement = false` suits chains that take the first to come: there a sent transaction waits.
    """

    max_fee_gwei: GweiAmount = Field(default=Decimal(200), gt=0)
    priority_fee_gwei: GweiAmount = Field(default=Decimal("0.1"), ge=0)
    gas_cap: int = Field(default=15_000_000, ge=100_000, le=TRANSACTION_GAS_CAP)
    replace_after: int = Field(default=3, ge=1)
    replacement: bool = True

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


class FeedTable(Table):
    """What a token's feeds promise: a round after so many seconds, and after such a move.

    What is not named here is learned from the rounds a feed gives.
    """

    heartbeat_seconds: int | None = Field(default=None, ge=1)
    deviation_bps: int | None = Field(default=None, ge=1, lt=10_000)


class Market(BaseModel):
    """One market of one lending protocol; what is not named here belongs to its own `Config`."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    protocol: str
    first_block: int = Field(default=0, ge=0)

    @property
    def options(self) -> dict[str, Any]:
        """Return the protocol's own options, not yet validated."""
        return dict(self.model_extra or {})


class Venue(BaseModel):
    """One exchange collateral can be sold on; `hubs` are tokens routes may pass through.

    What is not named here belongs to the venue's own `Config`.
    """

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    venue: str
    hubs: tuple[EvmAddress, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """Return the venue's own options, not yet validated."""
        return dict(self.model_extra or {})


class Chain(Table):
    """One chain: how to reach it, what to pay with, what to watch.

    With `relays` a transaction goes to them alone, and `public_after` blocks later, unless that is 0,
    another one on its nonce to everybody. `inclusion` says how the chain chooses and charges
    transactions, and `block_time` how many seconds lie between two blocks; unset, its id tells
    either. Without a usable WebSocket heads are polled every `poll_seconds`, and a WebSocket is tried
    again after `socket_retry_seconds`. Each of `wallets` is a lane of its own; `wallet` means one. A lane has `lane_cap` transactions on their way at most: a node keeps 16 of an account for certain
    (geth `txpool.accountslots`). `deviation_bps` takes the place of `breakers.deviation_bps` here.
    `feeds` are by token, its symbol or address.
    """

    chain_id: int = Field(ge=1)
    inclusion: Inclusion | None = None
    endpoints: Annotated[tuple[Endpoint, ...], Field(min_length=1)]
    contract: EvmAddress | None = None
    wrapped_native: EvmAddress | None = None
    multicall: EvmAddress = Field(default_factory=lambda: MULTICALL3)
    block_time: int = Field(default_factory=lambda said: default_block_time(said["chain_id"]), ge=1)
    poll_seconds: float = Field(default=1.0, gt=0)
    socket_retry_seconds: float = Field(default=60.0, gt=0)
    allowed_lag: int = Field(default=2, ge=0)
    trust_bloom: bool = True
    final_depth: int = Field(default=8, ge=1)
    public_after: int = Field(default=2, ge=0)
    wallet: Wallet | None = None
    wallets: tuple[Wallet, ...] = ()
    lane_cap: int = Field(default=16, ge=1)
    deviation_bps: int | None = Field(default=None, ge=0, lt=10_000)
    fees: Fees = Fees()
    routing: Routing = Routing()
    inventory: InventoryTable = InventoryTable()
    allow: Permitted = Permitted()
    deny: Permitted = Permitted()
    markets: dict[Name, Market] = Field(default_factory=dict)
    venues: dict[Name, Venue] = Field(default_factory=dict)
    relays: dict[Name, RelayTable] = Field(default_factory=dict)
    rivals: dict[Name, EvmAddress] = Field(default_factory=dict)
    feeds: dict[str, FeedTable] = Field(default_factory=dict)

    @property
    def lanes(self) -> dict[str, Wallet]:
        """Return the wallets that send, each by the key that holds it."""
        if self.wallet is not None:
            return {"wallet": self.wallet}
        return {f"wallets[{index}]": wallet for index, wallet in enumerate(self.wallets)}

    @property
    def inclusion_model(self) -> Inclusion:
        """Return how the chain chooses and charges transactions."""
        return default_inclusion(self.chain_id) if self.inclusion is None else self.inclusion

    @property
    def replaces(self) -> bool:
        """Whether more is offered for what waits: never where paying more gains no place."""
        return self.fees.replacement and self.inclusion_model.orders_by_fee

    @property
    def usual_priority_fee(self) -> Wei:
        """Return what planning prices gas with on top of the base fee, before anyone has bid."""
        return self.fees.priority_fee if self.inclusion_model.orders_by_fee else Wei(0)

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

    @field_validator("relays")
    @classmethod
    def _each_once(cls, relays: dict[Name, RelayTable]) -> dict[Name, RelayTable]:
        seen: dict[tuple[str, str], str] = {}
        for name, relay in relays.items():
            key = (relay.kind, relay.url.get_secret_value())
            if key in seen:
                raise ValueError(f"{name} and {seen[key]} are the same relay twice")
            seen[key] = name
        return relays

    @model_validator(mode="after")
    def _distinct_lanes(self) -> Self:
        if self.wallet is not None and self.wallets:
            raise ValueError("takes one of wallet and wallets, not both")
        seen: dict[object, str] = {}
        for lane, wallet in self.lanes.items():
            for key in (wallet.address, wallet.keystore):
                if key is not None and key in seen:
                    raise ValueError(
                        f"{seen[key]} and {lane} hold the same key: one nonce line each"
                    )
                if key is not None:
                    seen[key] = lane
        return self

    @model_validator(mode="after")
    def _lists_agree(self) -> Self:
        for kind in ("tokens", "protocols"):
            allowed, denied = getattr(self.allow, kind), getattr(self.deny, kind)
            if allowed is not None and not allowed:
                raise ValueError(f"allow.{kind} is empty: nothing could ever be sent")
            for name in sorted((allowed or frozenset()) & (denied or frozenset())):
                raise ValueError(f"allow.{kind} and deny.{kind} both name {name}")
        known = {market.protocol for market in self.markets.values()}
        for key, permitted in (("allow", self.allow), ("deny", self.deny)):
            for name in sorted((permitted.protocols or frozenset()) - known):
                raise ValueError(f"{key}.protocols names {name}, and no market here is of it")
        return self


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
    breakers: Breakers = Breakers()
    treasury: Treasury = Treasury()
    audit: Audit = Audit()
    notify: Notify = Notify()
    margin: Margin = Margin()
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

    @model_validator(mode="after")
    def _known_watches(self) -> Self:
        protocols = {m.protocol for chain in self.chains.values() for m in chain.markets.values()}
        markets = {name for chain in self.chains.values() for name in chain.markets}
        known = {"chains": self.chains.keys(), "protocols": protocols, "markets": markets}
        for name, watch in self.margin.watch.items():
            for key in ("channels", "escalate"):
                self.notify.check(f"margin.watch.{name}.{key}", getattr(watch, key))
            for key, there in known.items():
                for each in sorted((getattr(watch, key) or frozenset()) - there):
                    kind = key.removesuffix("s")
                    raise ValueError(
                        f"margin.watch.{name}.{key} names {each!r}, which is no {kind} here"
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
