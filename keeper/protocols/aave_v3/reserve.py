"""One reserve as the pool stores it, with interest accrued to any later moment."""

from dataclasses import dataclass, field
from functools import partial

from keeper.protocols.aave_v3.eras import V36, Era
from keeper.protocols.aave_v3.fixed import ray_mul_half_up
from keeper.protocols.aave_v3.v36 import liquidity_index
from keeper.types import Token, Undo
from keeper.units import RAY, ZERO_ADDRESS, Address, Bps

CATEGORY_BIT = 168
"""ReserveConfiguration.EMODE_CATEGORY_START_BIT_POSITION, up to v3.1."""
DECIMALS = 0xFF << 48
"""Where a configuration has them (ReserveConfiguration.DECIMALS_MASK)."""
_UNITS: list[int] = [10**decimals for decimals in range(256)]


@dataclass(slots=True)
class Reserve:
    """State of one reserve.

    `configuration` is the pool's own bitmap (ReserveConfiguration.sol), `token` is None until
    symbol and decimals were read, `cash` and `virtual_balance` are None when they were not. `era` has
    the rules its interest follows. `tells_amounts` says that transfers of the aToken are told in the
    underlying. `stable_token` is zero where there are no debts at stable rates.
    """

    id: int
    asset: Address
    supply_token: Address
    debt_token: Address
    configuration: int
    liquidity_index: int = RAY
    liquidity_rate: int = 0
    borrow_index: int = RAY
    borrow_rate: int = 0
    updated_at: int = 0
    grace_until: int = 0
    deficit: int = 0
    token: Token | None = None
    era: Era = field(default=V36, repr=False)
    tells_amounts: bool = False
    stable_token: Address = ZERO_ADDRESS
    scaled_supply: int = 0
    scaled_debt: int = 0
    virtual_balance: int | None = None
    cash: int | None = None
    _supply_at: tuple[int, int] = field(default=(-1, 0), repr=False, compare=False)
    _debt_at: tuple[int, int] = field(default=(-1, 0), repr=False, compare=False)

    @property
    def ltv(self) -> Bps:
        """Return the loan-to-value ratio outside eMode."""
        return Bps(self.configuration & 0xFFFF)

    @property
    def threshold(self) -> Bps:
        """Return the liquidation threshold outside eMode."""
        return Bps(self.configuration >> 16 & 0xFFFF)

    @property
    def bonus(self) -> Bps:
        """Return the liquidation bonus outside eMode."""
        return Bps(self.configuration >> 32 & 0xFFFF)

    @property
    def decimals(self) -> int:
        """Return the decimals the pool computes with."""
        return self.configuration >> 48 & 0xFF

    @property
    def unit(self) -> int:
        """Return one whole token."""
        return _UNITS[self.configuration >> 48 & 0xFF]

    @property
    def is_active(self) -> bool:
        """Tell whether the reserve takes any call."""
        return bool(self.configuration >> 56 & 1)

    @property
    def is_paused(self) -> bool:
        """Tell whether the reserve is paused."""
        return bool(self.configuration >> 60 & 1)

    @property
    def category(self) -> int:
        """Return the one eMode category a reserve had up to v3.1, 0 for none."""
        return self.configuration >> CATEGORY_BIT & 0xFF

    @property
    def is_flash_enabled(self) -> bool:
        """Tell whether the reserve gives flash loans."""
        return bool(self.configuration >> 63 & 1)

    @property
    def protocol_fee(self) -> Bps:
        """Return the share of the bonus that goes to the treasury."""
        return Bps(self.configuration >> 152 & 0xFFFF)

    @property
    def available(self) -> int | None:
        """Return what can be taken out in one transaction, None when it was not read."""
        if not self.era.has_virtual_balance:
            return self.cash
        if self.virtual_balance is None or self.cash is None:
            return None
        return min(self.virtual_balance, self.cash)

    def supply_index_at(self, timestamp: int) -> int:
        """Return the supply index with interest to `timestamp`."""
        moment, index = self._supply_at
        if moment != timestamp:
            elapsed = timestamp - self.updated_at
            index = liquidity_index(self.liquidity_index, self.liquidity_rate, elapsed)
            self._supply_at = timestamp, index
        return index

    def borrow_index_at(self, timestamp: int) -> int:
        """Return the debt index with interest to `timestamp`."""
        moment, index = self._debt_at
        if moment != timestamp:
            elapsed = timestamp - self.updated_at
            index = self.borrow_index
            if elapsed:
                index = ray_mul_half_up(self.era.compounded(self.borrow_rate, elapsed), index)
            self._debt_at = timestamp, index
        return index

    def renew(
        self,
        liquidity_index: int,
        liquidity_rate: int,
        borrow_index: int,
        borrow_rate: int,
        updated_at: int,
    ) -> Undo:
        """Replace indexes and rates, and return what takes that back."""
        undo = partial(
            self.store,
            self.liquidity_index,
            self.liquidity_rate,
            self.borrow_index,
            self.borrow_rate,
            self.updated_at,
        )
        self.store(liquidity_index, liquidity_rate, borrow_index, borrow_rate, updated_at)
        return undo

    def store(
        self,
        liquidity_index: int,
        liquidity_rate: int,
        borrow_index: int,
        borrow_rate: int,
        updated_at: int,
    ) -> None:
        """Replace indexes and rates."""
        self.liquidity_index = liquidity_index
        self.liquidity_rate = liquidity_rate
        self.borrow_index = borrow_index
        self.borrow_rate = borrow_rate
        self.updated_at = updated_at
        self._supply_at = self._debt_at = -1, 0
