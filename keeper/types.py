"""The nouns of the line: Head → View → Opportunity → Quote → Bid → Plan → Receipt, or Skip.

Every noun is immutable. Amounts are integers in the token's own smallest unit unless the name says
otherwise; values are in the base currency of the market's oracle, whose unit `Prices` carries.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from keeper.fees import BidRecord, DataFee, FeeHistory, Inclusion
from keeper.quick import quick
from keeper.units import BPS, MAX_UINT256, USD, WAD, Address, Bps, Hash, Usd, Wad, Wei

if TYPE_CHECKING:
    from keeper.ports import Terms


@dataclass(frozen=True, slots=True)
class NextBlock:
    """The block a decision is made for: the one after the head it was made on."""

    number: int
    timestamp: int
    base_fee: Wei

    def base_fee_after(self, full_blocks: int) -> Wei:
        """Return the base fee behind so many full blocks: each adds an eighth, and 1 wei at least."""
        highest = int(self.base_fee)
        for _ in range(full_blocks):
            highest += max(highest // 8, 1)
        return Wei(highest)


@dataclass(frozen=True, slots=True)
class Head:
    """One block header; `extra` is its extra data, where OP-stack chains keep their fee parameters."""

    number: int
    hash: Hash
    parent: Hash
    timestamp: int
    base_fee: Wei
    gas_used: int
    gas_limit: int
    bloom: bytes = b""
    extra: bytes = b""

    def next_base_fee(self, inclusion: Inclusion = Inclusion.AUCTION) -> Wei:
        """Return the base fee of the next block.

        EIP-1559 with denominator 8 and elasticity 2; on an OP-stack chain with what its header
        carries (Holocene and Jovian, else Canyon's 250 and 6) and not below its minimum. Arbitrum's
        follows a backlog no header tells: there the last one is the best guess.
        """
        if inclusion is Inclusion.ARBITRUM:
            return self.base_fee
        if inclusion is not Inclusion.OP_STACK:
            return _adjusted(self, 8, 2)
        version, body = self.extra[:1], self.extra[1:]
        denominator, elasticity, least = 250, 6, 0
        if (version, len(body)) in {(b"\0", 8), (b"\1", 16)}:
            told = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
            denominator, elasticity = told if all(told) else (denominator, elasticity)
            least = int.from_bytes(body[8:], "big")
        return Wei(max(_adjusted(self, denominator, elasticity), least))

    def next_block(self, block_time: int, inclusion: Inclusion = Inclusion.AUCTION) -> NextBlock:
        """Return the block expected `block_time` seconds after this one."""
        return NextBlock(
            self.number + 1, self.timestamp + block_time, self.next_base_fee(inclusion)
        )


def _adjusted(head: Head, denominator: int, elasticity: int) -> Wei:
    target = head.gas_limit // elasticity
    if target in {0, head.gas_used}:
        return head.base_fee
    if head.gas_used > target:
        rise = head.base_fee * (head.gas_used - target) // target // denominator
        return Wei(head.base_fee + max(rise, 1))
    fall = head.base_fee * (target - head.gas_used) // target // denominator
    return Wei(head.base_fee - fall)


class Log(NamedTuple):
    """One event log as bytes; `index` is its position in the block.

    `timestamp` is the block's. Every log that is folded carries it, since interest accrues by it;
    logs read over a range may have 0. A tuple, because a hundred thousand are made in a second:
    a frozen dataclass takes six times as long.
    """

    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: Hash
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    tx_hash: Hash = Hash(b"")
    timestamp: int = 0

    def at(self, timestamp: int) -> "Log":
        """Return the log with its block's timestamp."""
        return tuple.__new__(Log, (*self[:7], timestamp))


@dataclass(frozen=True, slots=True)
class Call:
    """One read: target and calldata."""

    target: Address
    data: bytes


@dataclass(frozen=True, slots=True)
class CallResult:
    """What one read of a multicall returned; `data` is revert data when `ok` is false."""

    ok: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Watch:
    """What a source wants to see: logs of these addresses with one of these first topics."""

    addresses: frozenset[Address]
    topics: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Drift:
    """One value in the book that differs from the chain."""

    subject: str
    held: int
    actual: int


@dataclass(frozen=True, slots=True)
class Token:
    """An ERC-20 token; `claim_on` is what it is redeemed for where it is a claim on another."""

    address: Address
    symbol: str
    decimals: int
    claim_on: Address = Address(b"")


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of one market as its oracle reports them at one head; an unread price is absent."""

    market: str
    unit: int
    values: Mapping[Address, int]
    head: Hash = Hash(b"")

    def get(self, asset: Address) -> int | None:
        """Return the price of one whole token in base currency, or None when it was not read."""
        return self.values.get(asset)

    def usd(self, value: int) -> Usd:
        """Convert a value in base currency to dollars, rounded down."""
        return Usd(value * USD // self.unit)


class Cause(StrEnum):
    """What made a position liquidatable."""

    INTEREST = "interest"
    PRICE = "price"
    POSITION = "position"


class Reason(StrEnum):
    """Why an opportunity was not taken; the list is closed."""

    UNPROFITABLE = "unprofitable"
    NO_ROUTE = "no_route"
    NO_PRICE = "no_price"
    DUST = "dust"
    CAPITAL = "capital"
    NO_LIQUIDITY = "no_liquidity"
    GAS_CAP = "gas_cap"
    PAUSED = "paused"
    GRACE = "grace"
    STALE_ORACLE = "stale_oracle"
    TOXIC = "toxic"
    DENIED = "denied"
    OUTBID = "outbid"
    IN_FLIGHT = "in_flight"
    COOLDOWN = "cooldown"
    BREAKER = "breaker"
    SIMULATION_FAILED = "simulation_failed"
    TIMEOUT = "timeout"


class Stage(StrEnum):
    """Where on the line something happened."""

    SELECTED = "selected"
    QUOTED = "quoted"
    BID = "bid"
    PLANNED = "planned"
    SUBMITTED = "submitted"
    INCLUDED = "included"


def home_of(market: str) -> str:
    """Return the configured market of a position's `market`: all of it up to a slash."""
    return market.partition("/")[0]


@quick
@dataclass(frozen=True, slots=True)
class CollateralLeg:
    """One collateral in use: `threshold` and `bonus` are those that apply to this borrower."""

    token: Token
    amount: int
    value: int
    threshold: Bps
    bonus: Bps


@quick
@dataclass(frozen=True, slots=True)
class DebtLeg:
    """One debt, interest accrued to the next block."""

    token: Token
    amount: int
    value: int


@quick
@dataclass(frozen=True, slots=True)
class Position:
    """One borrower in one market, exact, at the next block; health below 1e18 is liquidatable.

    Where a protocol keeps many markets of its own in one place, `market` is the configured name, a
    slash, and which of them. `state` is what the protocol needs to go on from here, its own business.
    """

    market: str
    protocol: str
    borrower: Address
    collateral: tuple[CollateralLeg, ...]
    debt: tuple[DebtLeg, ...]
    collateral_value: int
    debt_value: int
    health: Wad
    category: int = 0
    state: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, Address]:
        """Identify the position on its chain."""
        return self.market, self.borrower

    @property
    def home(self) -> str:
        """Return the configured market it stands in: what prices, parts and protocols go by."""
        return home_of(self.market)

    @property
    def toxic(self) -> bool:
        """Whether it is liquidatable and every collateral, seized in part, leaves less health."""
        held = [leg for leg in self.collateral if leg.amount]
        return self.health < WAD and bool(held) and all(self._worsens(leg) for leg in held)

    def emptied(self) -> "Position":
        """Return it without its legs, as a call leaves it that takes all."""
        return replace(
            self,
            collateral=(),
            debt=(),
            collateral_value=0,
            debt_value=0,
            health=Wad(MAX_UINT256),
            state=(),
        )

    def worsens(self, collateral: Token) -> bool:
        """Tell whether repaying a part against a collateral leaves the position less healthy.

        So it does where health < threshold × bonus: what is seized backed more than what is repaid.
        """
        return any(self._worsens(leg) for leg in self.collateral if leg.token == collateral)

    def _worsens(self, leg: CollateralLeg) -> bool:
        return self.health * BPS * BPS < leg.threshold * leg.bonus * WAD


@quick
@dataclass(frozen=True, slots=True)
class Seizure:
    """What a repay does: debt actually pulled, collateral received, and the protocol's cut.

    `repaid` is negative where the protocol pays for the call in the debt token and pulls nothing.

    `is_exact` says that a call for more than the largest repay fails, where others pull what they
    may. `extra_gas` is what the call takes beyond one of Aave's, `shared_gas` what calls of a group take
    once between them, where one is made for all; `called` is the contract it is made to where that is a
    token itself, which a batch has to list.
    """

    repaid: int
    received: int
    protocol_fee: int
    is_exact: bool = False
    extra_gas: int = 0
    called: Address = Address(b"")
    shared_gas: int = 0


@dataclass(frozen=True, slots=True)
class Skip:
    """An opportunity not taken: by whom, why, and the figures behind it."""

    market: str
    protocol: str
    borrower: Address
    reason: Reason
    detail: str = ""
    strategy: str = ""


@quick
@dataclass(frozen=True, slots=True)
class AtRisk:
    """A liquidatable position with the pairs its protocol allows, or the reason there are none."""

    position: Position
    pairs: "tuple[Terms, ...]"
    refusals: tuple[Skip, ...]
    cause: Cause


@dataclass(frozen=True, slots=True)
class View:
    """What a strategy sees of one head; nothing in it changes.

    `fee_history` is None when none was read lately; `data_fee` is None where a transaction costs its
    gas and nothing else. `inventory` is how much of which token the liquidator contract has of its own
    to repay with; what was not read is absent.
    """

    chain: str
    head: Head
    next_block: NextBlock
    at_risk: tuple[AtRisk, ...]
    prices: Mapping[str, Prices]
    tokens: Mapping[Address, Token]
    native: Token
    deadline_ms: int = 200
    inclusion: Inclusion = Inclusion.AUCTION
    fee_history: FeeHistory | None = None
    bid_record: BidRecord = BidRecord()  # noqa: RUF009  # frozen
    data_fee: DataFee | None = None
    inventory: Mapping[Address, int] = field(default_factory=dict)

    def price(self, market: str, asset: Address) -> int | None:
        """Return an asset's price in the market's base currency, or None when it was not read.

        The native coin's comes from any market that has it, where this one has not.
        """
        prices = self.prices.get(home_of(market))
        if prices is None:
            return None
        found = prices.get(asset)
        if found is not None or asset != self.native.address:
            return found
        for other in self.prices.values():
            known = other.get(asset)
            if known is not None:
                return known * prices.unit // other.unit
        return None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a strategy allows for one opportunity; None means no limit of its own.

    `whole` asks for the most one call may repay of a pair, or for nothing. `calls` is how many calls
    one transaction may make on the position, where several earn more than one.
    """

    minimum_profit: Usd
    largest_repay: Usd | None = None
    venues: frozenset[str] | None = None
    whole: bool = False
    calls: int = 1


@quick
@dataclass(frozen=True, slots=True)
class Opportunity:
    """A position a strategy chose, with the debt/collateral pairs it allows."""

    position: Position
    pairs: "tuple[Terms, ...]"
    cause: Cause
    strategy: str = ""

    @property
    def key(self) -> tuple[str, Address]:
        """Identify the position on its chain."""
        position = self.position
        return position.market, position.borrower

    @property
    def toxic(self) -> bool:
        """Whether every call that takes a part leaves the position less healthy."""
        return self.position.toxic


@dataclass(frozen=True, slots=True)
class Hop:
    """One conversion on a route through one pool.

    `extra_gas` and `extra_bytes` are what it takes beyond a swap that the contract makes in the pool
    itself: the call of a router, and that call's data. `least` is the least amount it takes, where it
    is an offer made for one: an offer was tried, so it is not judged as a pool is.
    """

    venue: str
    pool: Address
    token_in: Address
    token_out: Address
    extra_gas: int = 0
    extra_bytes: int = 0
    least: int = 0

    def __hash__(self) -> int:
        """Hash what nearly always differs: routes are keys all over planning."""
        return hash(self.pool)


@quick
@dataclass(frozen=True, slots=True)
class Portion:
    """The share of a sale that goes along one route, in 1e18ths; the shares of a sale add up to 1e18."""

    route: tuple[Hop, ...]
    share: int = WAD


@dataclass(frozen=True, slots=True)
class Sale:
    """An amount of collateral sold along its routes, one after another."""

    routes: tuple[Portion, ...]
    amount: int


@dataclass(frozen=True, slots=True)
class PoolSwap:
    """A hop executed in the pool of its two tokens and this fee under a Uniswap V3 factory."""

    factory: Address
    fee: int


@dataclass(frozen=True, slots=True)
class PoolCall:
    """A hop executed by a call its venue's `permissions` name; the amount goes in between as a word.

    `head` starts with the selector; what the call brings has to arrive at the liquidator contract.
    A `whole` call was made for one amount: it is `head` and `tail` as they are, and spends no other.
    What brings less than `minimum` is undone.
    """

    target: Address
    head: bytes
    tail: bytes
    whole: bool = False
    minimum: int = 0


@dataclass(frozen=True, slots=True)
class VaultRedeem:
    """A hop executed by redeeming shares, the token spent, of an ERC-4626 vault for its asset."""


@dataclass(frozen=True, slots=True)
class NativeWrap:
    """A hop from the native coin, written as the zero address, into its wrapped token."""


@dataclass(frozen=True, slots=True)
class NativeUnwrap:
    """A hop from the wrapped token into the native coin, written as the zero address."""


Execution = PoolSwap | PoolCall | VaultRedeem | NativeWrap | NativeUnwrap
"""How the liquidator contract carries out a hop."""


@dataclass(frozen=True, slots=True)
class AllowedCall:
    """A call the contract's owner has to allow; its tokens are approved for `spender`."""

    target: Address
    selector: bytes
    spender: Address


@dataclass(frozen=True, slots=True)
class TrustedFactory:
    """A Uniswap V3 factory the owner has to trust, by the hash of its pools' creation code."""

    factory: Address
    code_hash: Hash


Permission = AllowedCall | TrustedFactory
"""What a venue needs of the contract's owner."""


@dataclass(frozen=True, slots=True)
class PoolLiquidation:
    """Liquidate by `liquidationCall` of Aave's pool.

    The debt is still there when `scaledBalanceOf` of its `debt_token` says so.
    """

    target: Address
    debt_token: Address


@dataclass(frozen=True, slots=True)
class CallLiquidation:
    """Liquidate by a call the market's `permissions` name, one for each borrower.

    It is `opening`, which starts with the selector, the borrower as a word, `middle`, the amount to repay
    as a word, and `closing`; without `takes_borrower` or `takes_amount` that word is left out. With
    `value` the repay, in wrapped native token, goes along as native coin. A call that brings no
    collateral has failed unless `gainless` or `together`. The debt is still there when word `nth` of what
    `viewed` answers to `view`, followed by the borrower, says so; without a `view` nothing is asked before.
    With `native` the collateral, a wrapped native token, comes as native coin and is wrapped first. With
    `together` one call liquidates all of a group: behind `opening` it takes a list of the borrowers alone,
    no amount and no value, and who still owes by the `view`, which it needs, was left out.
    """

    target: Address
    opening: bytes
    middle: bytes = b""
    closing: bytes = b""
    takes_borrower: bool = True
    takes_amount: bool = True
    value: bool = False
    gainless: bool = False
    unbounded: bool = False
    native: bool = False
    together: bool = False
    viewed: Address = Address(b"")
    view: bytes = b""
    nth: int = 0


Liquidation = PoolLiquidation | CallLiquidation
"""How the liquidator contract carries out a liquidation."""


@quick
@dataclass(frozen=True, slots=True)
class Step:
    """One liquidation call: what is repaid and what is received for it."""

    terms: "Terms"
    repay: int
    seizure: Seizure


@dataclass(frozen=True, slots=True)
class Backstop:
    """What stands behind a market's lenders, or what is missing there, in units of one token.

    `kind` is the protocol's own word: `deficit` is debt nobody owes any more.
    """

    kind: str
    token: Token
    amount: int


class FlashKind(StrEnum):
    """Who lends the debt token for the length of one transaction; nobody where nothing is repaid."""

    INVENTORY = "inventory"
    AAVE = "aave"
    UNISWAP_V3 = "uniswap_v3"
    MORPHO = "morpho"
    BALANCER = "balancer"
    NONE = "none"


@quick
@dataclass(frozen=True, slots=True)
class FlashSource:
    """A lender of one token: `available` is the most it lends, `fee_ppm` its premium.

    `fee_wad` is the premium in 1e18ths where millionths are too coarse for it; `fee_ppm` is then
    rounded up. `shuts` is what cannot be traded on, nor lend once more, while the loan is open: of a
    Uniswap pool at least itself.
    """

    kind: FlashKind
    source: Address
    token: Address
    available: int
    fee_ppm: int
    fee_wad: int = 0
    shuts: frozenset[Address] = field(default=frozenset(), compare=False, repr=False)

    def __post_init__(self) -> None:
        """Shut a Uniswap pool that lends (UniswapV3Pool.sol: lock)."""
        if self.kind is FlashKind.UNISWAP_V3 and self.source not in self.shuts:
            object.__setattr__(self, "shuts", self.shuts | {self.source})

    def premium_up(self, amount: int) -> int:
        """Return the premium for a loan, rounded up."""
        if self.fee_wad:
            return -(-amount * self.fee_wad // WAD)
        return -(-amount * self.fee_ppm // 1_000_000)


@quick
@dataclass(frozen=True, slots=True)
class Quote:
    """An opportunity priced: amounts in debt-token units, gas in gas units.

    `proceeds` is what the sale of the collateral brings, `premium` the flash fee, `gas_cost` the
    gas at the next block's fees converted at the protocol's own prices (rounded up), and
    `net = proceeds - repaid - premium - gas_cost`. On a rollup `gas_cost` holds `data_fee`, this
    quote's share of what posting the transaction costs. `routes` is empty where the collateral is the
    debt token, or is kept.

    Several calls on one position in one transaction are several quotes: `part` numbers them, `parts`
    is how many there are, the position of a later one is what the earlier ones leave, and each goes
    only where all go. Quotes of
    a higher `stage` run behind all of a lower one. `sale_gas` is what of `gas` the sale takes beyond its
    swaps, as crossed ticks do. Where an offer is among `routes`, `fallback` is the sale without it.
    """

    opportunity: Opportunity
    steps: tuple[Step, ...]
    routes: tuple[Portion, ...]
    flash: FlashSource
    debt: Token
    gas: int
    proceeds: int
    repaid: int
    premium: int
    gas_cost: int
    net: int
    net_usd: Usd
    minimum_profit: int
    gross_usd: Usd
    data_fee: int = 0
    part: int = 0
    stage: int = 0
    sale_gas: int = 0
    fallback: tuple[Portion, ...] = ()
    parts: int = 1

    @property
    def hops(self) -> tuple[Hop, ...]:
        """Return every hop of the sale, in the order they run."""
        return hops_of(self.routes)

    @property
    def key(self) -> tuple[str, Address, int]:
        """Identify the call: its position, and how many calls on that stand before it."""
        position = self.opportunity.position
        return position.market, position.borrower, self.part

    @property
    def toxic(self) -> bool:
        """Whether the collateral it takes leaves the position less healthy unless it takes all."""
        position = self.opportunity.position
        return any(position.worsens(step.terms.collateral) for step in self.steps)


def hops_of(routes: tuple[Portion, ...]) -> tuple[Hop, ...]:
    """Return the hops of a sale's routes, one route after another."""
    if len(routes) == 1:
        return routes[0].route
    return tuple(hop for portion in routes for hop in portion.route)


@quick
@dataclass(frozen=True, slots=True)
class Bid:
    """What a strategy pays for inclusion; `tip` goes to the block's builder out of the profit."""

    priority_fee: Wei
    max_fee: Wei
    deadline: int
    tip: Wei = Wei(0)


@dataclass(frozen=True, slots=True)
class Fees:
    """EIP-1559 fees of one transaction."""

    max_fee: Wei
    priority_fee: Wei

    def price(self, base_fee: int) -> Wei:
        """Return the gas price paid in a block with this base fee."""
        return Wei(min(self.max_fee, base_fee + self.priority_fee))


@dataclass(frozen=True, slots=True)
class Holding:
    """So much of a token the contract holds; the native coin stands under `ZERO_ADDRESS`."""

    token: Token
    amount: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a sale of profit has to bring at least, of which token, and what the pool was to give."""

    receive: Token
    minimum: int
    expected: int


@quick
@dataclass(frozen=True, slots=True)
class Plan:
    """Several bid quotes packed in one transaction, or a sweep of profit to the treasury.

    `calldata` is what is simulated and what is sent, byte for byte. `net` is per debt token, after
    premium, before gas; `net_usd` is after gas. `prices` are dollars per whole token at the head the
    plan was made on, the native coin under `ZERO_ADDRESS`; receipts are valued by them. `tips` say
    what each quote pays of the bid's tip, in the order of `quotes`, none when there is no tip;
    `behind` are the sales of the plans before it at the same head. `refill` is the native wei asked
    for the operator out of the profit. A plan with a `sweep` has no quotes: it earns nothing, and its
    gas is all it costs; with a `conversion` the swept amount is sold instead, and what came in stays.
    `after` is a transaction of somebody else's that makes it possible and is not mined yet; empty for
    none, as in all plans made here. `data_fee` is what a rollup charges beside the gas, part of `gas_cost`;
    `data_gas` is the part of `gas_limit` it is taken from where it is taken as gas. `sender` is the
    account that will send it, empty until a lane was chosen.
    """

    id: str
    chain: str
    head: Head
    next_block: NextBlock
    quotes: tuple[Quote, ...]
    bid: Bid
    contract: Address
    calldata: bytes
    gas_limit: int
    gas: int
    gas_cost: Wei
    gross_usd: Usd
    net_usd: Usd
    repaid_usd: Usd
    skips: tuple[Skip, ...] = ()
    prices: Mapping[Address, Usd] = field(default_factory=dict)
    tips: tuple[Wei, ...] = ()
    behind: tuple[Sale, ...] = ()
    refill: Wei = Wei(0)
    sweep: Holding | None = None
    data_fee: Wei = Wei(0)
    data_gas: int = 0
    conversion: Conversion | None = None
    after: Hash = Hash(b"")
    sender: Address = field(default=Address(b""), compare=False)

    @property
    def fees(self) -> Fees:
        """Return the fees the transaction is signed with."""
        return Fees(self.bid.max_fee, self.bid.priority_fee)

    @property
    def worst_cost(self) -> Wei:
        """Return the most native coin it can burn: all its gas at the maximum fee, and the data fee.

        Where the data fee is taken as gas, the limit holds it already.
        """
        beside = 0 if self.data_gas else self.data_fee
        return Wei(self.gas_limit * self.bid.max_fee + beside)


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction ready to send; `raw` are the exact bytes, `plan.bid` its own fees.

    One that `cancels` has no calls: it takes the plan's nonce back. A `private` one goes to relays
    alone, never to the node.
    """

    plan: Plan
    sender: Address
    nonce: int
    raw: bytes
    hash: Hash
    cancels: bool = False
    private: bool = False


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """How one liquidation of a plan ended on the chain; `market` and `part` as in its quote's key."""

    borrower: Address
    ok: bool
    gain: int
    reason: str = ""
    market: str = ""
    part: int = 0

    @classmethod
    def of(cls, quote: Quote, ok: bool, gain: int, reason: str = "") -> "ItemOutcome":
        """Return how a quote's call ended."""
        market, borrower, part = quote.key
        return cls(borrower, ok, gain, reason, market, part)

    @property
    def key(self) -> tuple[str, Address, int]:
        """Identify the call as `Quote.key` does."""
        return self.market, self.borrower, self.part


@dataclass(frozen=True, slots=True)
class Included:
    """The transaction is in a block and succeeded; `refill` is what of its revenue the operator got.

    `data_fee` is what a rollup charged beside the gas, `relay` who held it (as in `BidOutcome`), here
    and in the receipts below.
    """

    plan_id: str
    tx_hash: Hash
    block_number: int
    block_hash: Hash
    timestamp: int
    gas_used: int
    gas_price: Wei
    gains: Mapping[Address, int] = field(default_factory=dict)
    items: tuple[ItemOutcome, ...] = ()
    revenue_usd: Usd = Usd(0)
    gas_cost_usd: Usd = Usd(0)
    tip_usd: Usd = Usd(0)
    net_usd: Usd = Usd(0)
    refill: Wei = Wei(0)
    data_fee: Wei = Wei(0)
    relay: str = ""

    @property
    def gas_paid(self) -> Wei:
        """Return what it cost: its gas, and what a rollup charged beside it."""
        return Wei(self.gas_used * self.gas_price + self.data_fee)


OUTRUN = (
    "an earlier transaction of its block took it: it holds on the state before, not on that after"
)
"""Why a transaction was reverted that another one was faster than."""


@dataclass(frozen=True, slots=True)
class Reverted:
    """The transaction is in a block and failed; only gas was spent."""

    plan_id: str
    tx_hash: Hash
    block_number: int
    gas_used: int
    gas_price: Wei
    reason: str
    gas_cost_usd: Usd = Usd(0)
    data_fee: Wei = Wei(0)
    relay: str = ""

    @property
    def gas_paid(self) -> Wei:
        """Return what it cost: its gas, and what a rollup charged beside it."""
        return Wei(self.gas_used * self.gas_price + self.data_fee)


@dataclass(frozen=True, slots=True)
class Dropped:
    """The transaction was never sent, or the node no longer knows it."""

    plan_id: str
    tx_hash: Hash | None
    reason: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """Another transaction of ours took the nonce."""

    plan_id: str
    tx_hash: Hash
    by: Hash


@dataclass(frozen=True, slots=True)
class Cancelled:
    """We took the nonce back with an empty transaction; that one's own receipt tells its gas.

    There `by` is `tx_hash`; in those of the transactions it stopped the figures are zero.
    """

    plan_id: str
    tx_hash: Hash
    by: Hash
    block_number: int = 0
    gas_used: int = 0
    gas_price: Wei = Wei(0)
    gas_cost_usd: Usd = Usd(0)
    data_fee: Wei = Wei(0)
    relay: str = ""

    @property
    def gas_paid(self) -> Wei:
        """Return what it cost: its gas, and what a rollup charged beside it."""
        return Wei(self.gas_used * self.gas_price + self.data_fee)


Receipt = Included | Reverted | Dropped | Replaced | Cancelled

Undo = Callable[[], None]
"""Takes back exactly one fold; called in reverse order of the folds."""
