"""Redeeming seized cTokens for their underlying, as hops that any sale of them starts with."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from keeper.chain.words import selector
from keeper.ports import Pages, Reader
from keeper.protocols.compound_v2.ctoken import CToken
from keeper.protocols.compound_v2.events import REDEEM_ACTION
from keeper.protocols.compound_v2.exponential import redeem_down
from keeper.protocols.compound_v2.ledger import Ledger
from keeper.protocols.compound_v2.valuation import moment
from keeper.types import (
    AllowedCall,
    Call,
    CallResult,
    Drift,
    FlashSource,
    Head,
    Hop,
    Log,
    NextBlock,
    PoolCall,
    Undo,
    Watch,
)
from keeper.units import ZERO_ADDRESS, Address

REDEEM = selector("redeem(uint256)")
EXTRA_GAS = 145_000
"""What a redemption takes beyond a swap in a Uniswap V3 pool."""
EXTRA_BYTES = 4


class Redemption:
    """The redemptions of one market, from what the market itself follows.

    `following` gives its ledger as it stands.
    """

    def __init__(self, name: str, following: Callable[[], Ledger]) -> None:
        self.name = name
        self._following = following
        self._at: NextBlock | None = None

    def watch(self) -> Watch:
        """Return nothing: the market folds its logs."""
        return Watch(frozenset(), frozenset())

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Do nothing: the market is loaded."""

    def fold(self, _log: Log) -> Undo | None:
        """Return None: no log is watched."""
        return None

    async def audit(self, _reader: Reader, _head: Head, _sample: int, _seed: int) -> list[Drift]:
        """Return nothing: the market is audited."""
        return []

    def snapshot(self) -> Pages:
        """Freeze nothing."""

        def pages() -> Iterator[bytes]:
            yield b""

        return pages

    def restore(self, pages: Iterable[bytes]) -> None:
        """Hold nothing."""
        for _ in pages:
            pass

    def calls(self) -> Sequence[Call]:
        """Return nothing: the market reads what there is to read."""
        return ()

    def observe(self, results: Sequence[CallResult], head: Head, at: NextBlock) -> None:
        """Take the block that quotes are for."""
        del results, head
        self._at = at

    def hops(self, token_in: Address) -> Sequence[Hop]:
        """Return the redemption of a cToken, into the native coin where it holds that."""
        ledger = self._following()
        ctoken = ledger.by_address.get(token_in)
        if ctoken is None or ledger.stopped:
            return ()
        bought = ZERO_ADDRESS if ctoken.is_native else ctoken.underlying.address
        return (Hop(self.name, token_in, token_in, bought, EXTRA_GAS, EXTRA_BYTES),)

    def execution(self, hop: Hop) -> PoolCall:
        """Return a call of the cToken's `redeem`."""
        return PoolCall(hop.pool, REDEEM, b"")

    def permissions(self) -> Sequence[AllowedCall]:
        """Return the redemption of every cToken."""
        ctokens = self._following().ctokens
        return [AllowedCall(each.address, REDEEM, each.address) for each in ctokens]

    def begin(self) -> "Redeemed":
        """Return a scratch state on which redemptions can be tried one after another."""
        ledger = self._following()
        until = None if self._at is None else moment(ledger, self._at)
        return Redeemed(ledger, until)

    def flash_sources(self, _token: Address) -> Sequence[FlashSource]:
        """Return nothing: who may borrow for a transaction is on a list."""
        return ()


class Redeemed:
    """Redemptions tried: a cToken pays until its cash is gone, at the rate of the block to come."""

    def __init__(self, ledger: Ledger, until: int | None) -> None:
        self._ledger = ledger
        self._until = until
        self._spent: dict[Address, int] = {}
        self._rates: dict[Address, int] = {}

    def quote(self, hop: Hop, amount_in: int) -> int:
        """Return the underlying for cTokens; 0 when the cToken cannot pay it."""
        ctoken = self._ledger.by_address.get(hop.pool)
        if ctoken is None or not ctoken.is_read or ctoken.paused >> REDEEM_ACTION & 1:
            return 0
        if amount_in <= 0:
            return 0
        rate = self._rate(ctoken)
        # All of it leaves, the treasury's fee too.
        if redeem_down(amount_in, rate, 0) > (ctoken.cash or 0) - self._spent.get(hop.pool, 0):
            return 0
        return redeem_down(amount_in, rate, self._ledger.redeem_fee)

    def apply(self, hop: Hop, amount_in: int) -> int:
        """Redeem on the scratch state and return the underlying."""
        brought = self.quote(hop, amount_in)
        if brought:
            spent = redeem_down(amount_in, self._rates[hop.pool], 0)
            self._spent[hop.pool] = self._spent.get(hop.pool, 0) + spent
        return brought

    def _rate(self, ctoken: CToken) -> int:
        rate = self._rates.get(ctoken.address)
        if rate is None:
            stored = ctoken.stored
            totals = stored if self._until is None else ctoken.accrued(self._until)
            rate = self._rates[ctoken.address] = ctoken.exchange_rate(totals)
        return rate
