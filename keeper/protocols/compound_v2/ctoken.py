"""One cToken (Venus: vToken) as its contract stores it, with interest to any later block."""

from dataclasses import dataclass, field

from keeper.protocols.compound_v2.columns import Column
from keeper.protocols.compound_v2.exponential import (
    Accrued,
    accrue_down,
    borrow_balance_down,
    exchange_rate_down,
)
from keeper.types import Token
from keeper.units import Address, Wad

Debt = tuple[int, int]
"""A principal, and the borrow index it was written at."""


@dataclass(frozen=True, slots=True)
class Terms:
    """A cToken's part in one pool: liquidation threshold and incentive, in wad."""

    threshold: Wad = Wad(0)
    incentive: Wad = Wad(0)


@dataclass(slots=True)
class CToken:
    """State of one cToken; `underlying` of one on the native coin is the wrapped token.

    `terms` are by pool, 0 is the core pool. `accrued_at` is a block number, or a timestamp where the
    market counts in seconds. `doubt` says why nobody who entered it is sent to. `cash`, `supply`, `reserves` and `rate` (wad for each block or second)
    are read at every head, and None when they could not be.
    """

    id: int
    token: Token
    underlying: Token
    is_native: bool
    index: int
    borrows: int
    accrued_at: int
    reserve_factor: int = 0
    seize_share: int = 0
    terms: dict[int, Terms] = field(default_factory=dict)
    paused: int = 0
    is_forced: bool = False
    doubt: str = ""
    balances: Column[int] = field(default_factory=Column)
    debts: Column[Debt] = field(default_factory=Column)
    cash: int | None = None
    supply: int | None = None
    reserves: int | None = None
    rate: int | None = None

    @property
    def address(self) -> Address:
        """Return the cToken's own address."""
        return self.token.address

    @property
    def is_read(self) -> bool:
        """Tell whether everything was read that interest depends on."""
        return None not in (self.cash, self.supply, self.reserves, self.rate)

    def accrued(self, moment: int) -> Accrued:
        """Return index, borrows and reserves with interest to a block, or to a second."""
        elapsed = max(moment - self.accrued_at, 0)
        rate, reserves = self.rate or 0, self.reserves or 0
        return accrue_down(self.index, self.borrows, reserves, rate, elapsed, self.reserve_factor)

    def exchange_rate(self, totals: Accrued) -> int:
        """Return the exchange rate at such totals, in wad."""
        cash, supply = self.cash or 0, self.supply or 0
        return exchange_rate_down(cash, totals.borrows, totals.reserves, supply)

    @property
    def stored(self) -> Accrued:
        """Return the totals as they are stored."""
        return Accrued(self.index, self.borrows, self.reserves or 0)

    def owed(self, borrower: Address, index: int) -> int:
        """Return a borrower's debt at a borrow index."""
        principal, since = self.debts.get(borrower, (0, 1))
        return borrow_balance_down(principal, index, since)
