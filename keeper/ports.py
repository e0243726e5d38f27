"""Every seam of the keeper, as a `Protocol`; nobody inherits from us."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from keeper.types import (
    Backstop,
    Bid,
    Call,
    CallResult,
    Drift,
    Execution,
    FlashSource,
    Head,
    Hop,
    Limits,
    Liquidation,
    Log,
    NextBlock,
    Opportunity,
    Permission,
    Plan,
    Position,
    Prices,
    Quote,
    Receipt,
    Seizure,
    Signed,
    Skip,
    Token,
    Undo,
    View,
    Watch,
)
from keeper.units import Address, Bps, Hash

if TYPE_CHECKING:
    # The public face stands on this module and has to stay light.
    import numpy as np
    from numpy.typing import NDArray


class Clock(Protocol):
    """Wall and monotonic time."""

    def time(self) -> float:
        """Return seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary point, never falling."""
        ...


class Rpc(Protocol):
    """A JSON-RPC connection to one chain."""

    async def request(self, method: str, params: Sequence[object]) -> Any:
        """Return the result; raise `RpcError` for an error answer, `TransientError` for none."""
        ...


class Reader(Protocol):
    """Reads of one chain at a named block, each costing one request."""

    async def head(self, number: int | None = None) -> Head:
        """Return a header by number, or the latest."""
        ...

    async def call(self, call: Call, block: Hash | None = None) -> bytes:
        """Return what a call returns at a block's hash; raise `RpcError` when it reverts."""
        ...

    async def multicall(self, calls: Sequence[Call], block: Hash | None = None) -> list[CallResult]:
        """Return one result per call, all at one block, through Multicall3 in as few requests as fit."""
        ...

    async def logs(self, watch: Watch, first: int, last: int) -> list[Log]:
        """Return the matching logs of an inclusive range in chain order, in adaptive ranges."""
        ...

    async def collect(
        self, stage: str, watch: Watch, first: int, last: int, key: Callable[[Log], bytes]
    ) -> AbstractSet[bytes]:
        """Return the distinct keys of all logs of a long inclusive range, in bounded memory.

        Read in parallel, with progress under the name `stage`, and resumed where a killed process
        ended. Keys of one stage have one length.
        """
        ...

    async def forget(self) -> None:
        """Forget what `collect` kept for a second start: it is loaded, or does not add up."""
        ...

    async def sweep(
        self,
        stage: str,
        calls: Iterable[Call],
        total: int,
        block: Hash,
        take: Callable[[Sequence[CallResult]], None],
    ) -> None:
        """Make a long row of calls at one block and hand their results over in order, in portions.

        `total` is how many calls there are, for progress under the name `stage`. Raises
        `StateGoneError` when the node drops the block's state before the end.
        """
        ...

    async def code(self, address: Address, block: Hash | None = None) -> bytes:
        """Return an account's code."""
        ...

    async def storage(self, address: Address, slot: int, block: Hash | None = None) -> bytes:
        """Return one storage word."""
        ...


class Progress(Protocol):
    """Is told how far long work is."""

    def report(self, stage: str, unit: str, done: int, total: int) -> None:
        """Take how many units of a stage are done; the stage ends when all are."""
        ...


@dataclass(frozen=True, slots=True)
class Scanned:
    """A range of settled blocks whose logs were read: the keys they added, `width` bytes each.

    Keys belong to all parts of one save together. `anchor` is a settled block not below `last`:
    where it is no longer on the chain, nothing scanned under it counts.
    """

    first: int
    last: int
    anchor: int
    anchor_hash: Hash
    keys: bytes
    width: int


class Checkpoint(Protocol):
    """Keeps durably how far the long scans of one chain are."""

    async def load(self, stage: str, identity: bytes) -> list[Scanned]:
        """Return what was saved of a scan; another `identity` of the same stage is forgotten."""
        ...

    async def save(self, stage: str, identity: bytes, parts: Sequence[Scanned]) -> None:
        """Add to a scan, all parts or none; on disk before it returns."""
        ...

    async def clear(self) -> None:
        """Forget every scan of the chain: its state is loaded, or cannot be with what was found."""
        ...


Pages = Callable[[], Iterator[bytes]]
"""Encodes frozen state, about a megabyte at a time; meant to be called off the event loop."""


class Source(Protocol):
    """State kept exact from logs: ordered, undone on a reorg, snapshotted, audited against the chain."""

    def watch(self) -> Watch:
        """Return what to watch now; a log may widen it."""
        ...

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Load the state as of exactly this head."""
        ...

    def fold(self, log: Log) -> Undo | None:
        """Apply one log; return what takes it back, or None when nothing changed."""
        ...

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare a random sample with the chain at the head the state stands at."""
        ...

    def snapshot(self) -> Pages:
        """Freeze the state as it stands, in a millisecond or so, and return what encodes it.

        Later folds do not change what the returned function gives.
        """
        ...

    def restore(self, pages: Iterable[bytes]) -> None:
        """Replace the state by a snapshot's; raise `InvariantError` when the pages cannot be read."""
        ...


class Follower(Protocol):
    """What the listener drives: every block folded in order, taken back on a reorg."""

    @property
    def head(self) -> Head | None:
        """Return the last folded head, None before bootstrap."""
        ...

    def watch(self) -> Watch:
        """Return everything to watch now; may widen while a block is folded."""
        ...

    def fold(self, head: Head, logs: Sequence[Log]) -> None:
        """Apply one block's logs in order; `head.parent` must be the last folded head."""
        ...

    def undo(self) -> None:
        """Take the last folded block back; raise `InvariantError` when it is too deep."""
        ...


class Oracle(Source, Protocol):
    """Prices as one market reads them."""

    def calls(self) -> Sequence[Call]:
        """Return the reads that give every price of the market; run at each head's hash."""
        ...

    def prices(self, results: Sequence[CallResult], head: Head) -> Prices:
        """Turn the answers to `calls` into prices; an unreadable one is left out."""
        ...


@runtime_checkable
class Announcing(Protocol):
    """An oracle that hears of rounds, also of those that leave a price as it was."""

    def rounds(self) -> Mapping[Address, int]:
        """Return how many rounds were heard of for each asset; only that it changes counts."""
        ...


class Terms(Protocol):
    """What the protocol allows on one debt/collateral pair of one position, exact."""

    @property
    def collateral(self) -> Token:
        """Return the token seized."""
        ...

    @property
    def debt(self) -> Token:
        """Return the token repaid."""
        ...

    @property
    def maximum(self) -> int:
        """Return the largest repay the protocol takes now, in debt units."""
        ...

    @property
    def bonus(self) -> Bps:
        """Return the liquidation bonus, 10_500 for 5 %."""
        ...

    @property
    def scaled_debt(self) -> int:
        """Return the debt as `scaledBalanceOf` of its debt token gives it before the call."""
        ...

    def legal_down(self, repay: int) -> int:
        """Return the largest repay the rules (dust, liquidity) allow up to `repay`; 0 when none."""
        ...

    def seize(self, repay: int) -> Seizure:
        """Return exactly what the call does for a legal repay, protocol fee and rounding included."""
        ...


@runtime_checkable
class Worded(Protocol):
    """Terms of which the call names another amount than the repay, in one of several ways.

    Only liquidations of one `way` share a group.
    """

    way: int

    def word(self, repay: int) -> int:
        """Return what the call names for a legal repay: shares, say, or collateral."""
        ...


LegRow = tuple[int, int]
"""Class number, scaled amount. A class is what shares one factor: an asset under one set of terms."""


@dataclass(frozen=True, slots=True)
class LegArrays:
    """The legs of all borrowers of a market: leg k is `amounts[k]` of `classes[k]`, of row `rows[k]`.

    A row is a position in `borrowers`; rows ascend.
    """

    borrowers: Sequence[Address]
    collateral_rows: NDArray[np.intp]
    collateral_classes: NDArray[np.intp]
    collateral_amounts: NDArray[np.float64]
    debt_rows: NDArray[np.intp]
    debt_classes: NDArray[np.intp]
    debt_amounts: NDArray[np.float64]


class LendingProtocol(Source, Protocol):
    """One market of one lending protocol."""

    market: str
    protocol: str

    @property
    def oracle(self) -> Oracle:
        """Return the market's prices."""
        ...

    def calls(self) -> Sequence[Call]:
        """Return reads to add to each head's multicall (a sentinel, say); often none."""
        ...

    def observe(self, results: Sequence[CallResult], head: Head) -> None:
        """Take the answers to `calls`."""
        ...

    def tokens(self) -> Mapping[Address, Token]:
        """Return the market's tokens by address."""
        ...

    def borrowers(self) -> int:
        """Return how many borrowers with debt the ledger holds."""
        ...

    def changed(self) -> set[Address]:
        """Return and forget the borrowers whose legs changed since the last call, undo included.

        `all_legs` forgets them too: what it freezes needs no repetition. It comes first after
        `bootstrap` and `restore`, which may leave the borrowers they brought out of here.
        """
        ...

    def legs(self, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
        """Return a borrower's collateral and debt as the float screen holds them; none without debt."""
        ...

    def all_legs(self) -> Callable[[], LegArrays]:
        """Freeze every borrower's legs and return what gathers them, to be called off the loop."""
        ...

    def factors(
        self, prices: Prices, at: NextBlock
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return by class what one scaled unit adds to the weighted collateral, and to the debt.

        Liquidation thresholds are part of the first, so a change of terms changes no leg. A class
        without a price is NaN, so that its holders are never screened as safe.
        """
        ...

    def position(self, borrower: Address, prices: Prices, at: NextBlock) -> Position | None:
        """Return the exact position at the next block; None when a price it needs was not read."""
        ...

    def pairs(
        self, position: Position, prices: Prices, at: NextBlock
    ) -> tuple[Sequence[Terms], Sequence[Skip]]:
        """Return the pairs that may be liquidated now and the refusals for those that may not."""
        ...

    def after(self, position: Position, terms: Terms, repay: int) -> Position:
        """Return what a legal call on one of the position's pairs leaves of it, in the same block.

        Exact, so that `pairs` of what it returns are the terms of the next call.
        """
        ...

    @property
    def stopped(self) -> str:
        """Return why the market is only watched, empty when it may be liquidated on."""
        ...

    def withdrawable(self, token: Address) -> int | None:
        """Return what all liquidations of one block together can take out; None when not known."""
        ...

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        """Return this protocol's own flash loans of a token, empty when disabled.

        Each comes out of `withdrawable`.
        """
        ...

    def execution(self, terms: Terms) -> Liquidation:
        """Return how the contract liquidates one pair; quotes that share a group have the same."""
        ...

    def permissions(self) -> Sequence[Permission]:
        """Return what the contract's owner has to allow for liquidations and flash loans."""
        ...

    def liquidation_target(self, debt: Address) -> tuple[Address, Address]:
        """Return the contract to call and the debt token whose balance proves the debt is there."""
        ...

    def backstops(self) -> Sequence[Backstop]:
        """Return the market's insurance and its losses as the contracts have them, zeros included."""
        ...


class Venue(Source, Protocol):
    """One kind of pool: exact local quotes from state kept by the listener."""

    name: str

    def hops(self, token_in: Address) -> Sequence[Hop]:
        """Return every known conversion out of a token."""
        ...

    def execution(self, hop: Hop) -> Execution:
        """Return how the contract executes one of this venue's hops."""
        ...

    def permissions(self) -> Sequence[Permission]:
        """Return what the contract's owner has to allow for that."""
        ...

    def begin(self) -> Swaps:
        """Return a scratch copy of pool state on which sales can be tried one after another."""
        ...

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        """Return pools that lend the token for one transaction."""
        ...


Told = tuple[Address, Address, Address, int, int, Address]
"""A liquidation: borrower, debt, collateral, repaid, seized, liquidator."""


@runtime_checkable
class Telling(Protocol):
    """A market that can say who was liquidated in it."""

    def liquidation(self, log: Log) -> Told | None:
        """Return what a log tells of a liquidation here, None when it tells of something else.

        The liquidator is the zero address where the log does not name it.
        """
        ...

    def liquidation_logs(self) -> Watch:
        """Return where those logs come from, and nothing else."""
        ...


@runtime_checkable
class Valuing(Protocol):
    """A market whose `factors` are not in the base currency of its prices."""

    def worth(self, prices: Prices) -> NDArray[np.float64] | float:
        """Return what their unit is worth in it, of all classes or by class; NaN when not known."""
        ...


@runtime_checkable
class Plain(Protocol):
    """A market whose positions hold claims, or that has prices its tokens' own do not tell."""

    def plain(self, position: Position, prices: Prices) -> tuple[Position, Prices]:
        """Return a position in tokens that people know, and the prices that its values follow from.

        Values and health stay as they are; a token without a price stays as it is, too.
        """
        ...


@runtime_checkable
class Placing(Protocol):
    """A lending protocol with many markets of its own under one name.

    Its accounts are keys that end with the borrower's 20 bytes.
    """

    def place(self, account: Address) -> str:
        """Return the `market` of an account's positions."""
        ...

    def account(self, position: Position) -> Address:
        """Return the account a position is of."""
        ...

    def place_told(self, log: Log) -> str:
        """Return the `market` of the position that a liquidation's log tells of."""
        ...

    def account_in(self, place: str, borrower: Address) -> Address | None:
        """Return a borrower's account in the market of a name; None when there is no such market."""
        ...


@runtime_checkable
class Doubling(Protocol):
    """A protocol in which some accounts are others under different terms, with the same debt."""

    def original(self, account: Address) -> Address | None:
        """Return the account whose debt and collateral an account shows again, None for most."""
        ...


def account_of(protocol: LendingProtocol, position: Position) -> Address:
    """Return what a protocol calls the account of one of its positions: mostly the borrower."""
    return protocol.account(position) if isinstance(protocol, Placing) else position.borrower


@runtime_checkable
class Rating(Protocol):
    """A market of many places, each with an oracle of its own that gives one token in another."""

    def rates(self, prices: Prices) -> Mapping[str, tuple[Token, Token, int]]:
        """Return by place its collateral, its loan token, and the price in 1e18ths of the latter.

        Of whole tokens, rounded down; a place whose price was not read is absent.
        """
        ...


@dataclass(frozen=True, slots=True)
class PriceSource:
    """One price that a market goes by: of a token in dollars, or `against` another one.

    `call` answers it, `unit` is the answer that stands for one whole of the other for one whole.
    `feed` is the contract it comes from, and tells its rounds if it is a feed as Chainlink's are.
    """

    token: Token
    call: Call
    unit: int
    feed: Address
    against: Token | None = None


@runtime_checkable
class Sourced(Protocol):
    """A lending protocol that can say where its prices come from before it is loaded."""

    async def sources(self, reader: Reader, head: Head) -> Sequence[PriceSource]:
        """Return them as of a head, as far as no history has to be read for it."""
        ...


@runtime_checkable
class Derived(Protocol):
    """A market that goes by more than one price for each token: by ratios, say, or by a later one."""

    def moved(self, prices: Prices, multiples: Mapping[Address, float]) -> Prices:
        """Return the prices it will go by when each token is worth a multiple of what it is.

        A token that is not named stands still. What it reads with a delay follows at once.
        """
        ...


@runtime_checkable
class Redeeming(Protocol):
    """A lending protocol that pays in claims on collateral: it brings what redeems them as a venue."""

    def redemption(self) -> Venue:
        """Return a venue of the market's own, by another name than any configured one."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A lending protocol that acts only on code it knows."""

    def remember(self, page: bytes) -> None:
        """Know its code as a snapshot did, by its first page; the rest of it may be of no use.

        Asked before anything is loaded. A page that tells nothing of this market changes nothing.
        """
        ...


@runtime_checkable
class Observing(Protocol):
    """A venue of which logs do not tell all: what it reads at each head, beside the prices."""

    def calls(self) -> Sequence[Call]:
        """Return reads to add to each head's multicall; often none."""
        ...

    def observe(self, results: Sequence[CallResult], head: Head, at: NextBlock) -> None:
        """Take the answers to `calls`; quotes are for the block `at`, which comes after the head."""
        ...


class Swaps(Protocol):
    """Trial swaps on top of the venue's state; the venue itself is not touched."""

    def quote(self, hop: Hop, amount_in: int) -> int:
        """Return the exact output of a swap on the state so far; 0 when the pool cannot fill it."""
        ...

    def apply(self, hop: Hop, amount_in: int) -> int:
        """Swap on the scratch state and return the output."""
        ...


@runtime_checkable
class Offering(Protocol):
    """A venue with offers: calls made for one amount, which is the `least` of their hops.

    They are no part of routes, but compete with them for a sale as it is planned. Until it is
    connected, as in a replay, a venue has none.
    """

    def connect(self, rpc: Rpc) -> None:
        """Try offers at this node from now on."""
        ...

    @property
    def refused(self) -> Mapping[str, int]:
        """Return why offers were not believed so far, and how often."""
        ...

    def want(
        self, sold: Address, bought: Address, amount: int, *, is_foreseen: bool = False
    ) -> None:
        """Note a sale that offers are wanted for, at the heads that follow; nothing waits for them.

        What is planned goes before what is only foreseen: an offer for more is of no use to it.
        """
        ...


@runtime_checkable
class Metered(Protocol):
    """Trial swaps that know what an amount costs beyond a swap in which a pool's price hardly moves."""

    def extra_gas(self, hop: Hop, amount_in: int) -> int:
        """Return the gas an amount takes on its way through a pool."""
        ...


class Strategy(Protocol):
    """Chooses and bids; pure and synchronous, written against the `keeper` package alone.

    A strategy class has a nested pydantic model `Config`; its constructor takes one instance of it
    (see `strategies/README.md`).
    """

    def select(self, view: View) -> Iterable[Opportunity | Skip]:
        """Return what to price, and a `Skip` for what not."""
        ...

    def limits(self, opportunity: Opportunity, view: View) -> Limits:
        """Return the least profit and the largest repay for one opportunity."""
        ...

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        """Return what to pay for inclusion, or why not to take the quote."""
        ...


class Signer(Protocol):
    """Holds one key."""

    address: Address

    async def sign(self, transaction: Mapping[str, int | bytes]) -> tuple[bytes, Hash]:
        """Sign an EIP-1559 transaction; return the raw bytes and the hash."""
        ...


class Relay(Protocol):
    """One way to hand a signed transaction to block builders past the public pool."""

    name: str

    async def send(self, signed: Signed, before: Sequence[Signed], first: int, last: int) -> None:
        """Submit the bytes once, to be included in one of these blocks.

        `before` are those on the nonces before it. Raises `RpcError` when refused, `TransientError`
        when nobody can know.
        """
        ...

    async def cancel(self, signed: Signed, first: int, last: int) -> None:
        """Ask for it to be forgotten for these blocks."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...


class Journal(Protocol):
    """The durable record of decisions; methods that precede money moving return when on disk."""

    async def planned(self, plan: Plan) -> None:
        """Record a plan before its bytes."""
        ...

    async def signed(self, signed: Signed) -> None:
        """Record the exact bytes before the first send."""
        ...

    async def sent(self, signed: Signed, error: str | None) -> None:
        """Record that the bytes were handed over, or how that failed."""
        ...

    async def settled(self, *receipts: Receipt) -> None:
        """Record how a plan ended."""
        ...

    def observe(
        self, view: View, opportunities: Sequence[Opportunity], skips: Sequence[Skip]
    ) -> None:
        """Queue what was seen and skipped; a full queue drops and counts."""
        ...

    async def lost(self, plan_id: str, relay: str) -> None:
        """Record that a plan lost its purpose while a relay held it; it has no receipt yet."""
        ...

    async def reopened(self, plan_id: str, sender: Address, nonce: int) -> None:
        """Take back how a plan ended: a reorg undid it, and its transactions are open again."""
        ...

    async def finished(self, chain: str, sender: Address, nonce: int) -> None:
        """Record that how a nonce ended is final."""
        ...

    async def pending(self) -> list[Signed]:
        """Return transactions signed and not settled, for recovery at start."""
        ...

    async def unfinal(self) -> list[tuple[Signed, int | None, Hash]]:
        """Return transactions settled and not final, and the block of those that were mined.

        The block's hash is empty where it is not on record.
        """
        ...


class Admission(Protocol):
    """Limits and breakers between planning and sending."""

    def admit(self, plan: Plan) -> Skip | None:
        """Return None when the plan may be sent, else why not."""
        ...

    def halted(self, plan: Plan) -> bool:
        """Whether a switch stops a plan admitted before; limits on what it costs do not."""
        ...

    def reserve(self, plan: Plan) -> None:
        """Count a plan that may be mined at any time, whatever the limits say."""
        ...

    def settle(self, receipt: Receipt) -> None:
        """Learn how a plan ended."""
        ...
