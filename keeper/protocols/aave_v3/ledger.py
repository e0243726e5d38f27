"""Every balance, flag and parameter of one market, each change with what takes it back."""

from dataclasses import dataclass, field
from functools import partial

from keeper.protocols.aave_v3.reserve import Reserve
from keeper.types import Undo
from keeper.units import Address, Bps


@dataclass(frozen=True, slots=True)
class Category:
    """One eMode category; the bitmaps hold reserve ids (DataTypes.EModeCategory)."""

    ltv: Bps = Bps(0)
    threshold: Bps = Bps(0)
    bonus: Bps = Bps(0)
    collateral: int = 0
    borrowable: int = 0
    ltv_zero: int = 0


@dataclass(slots=True)
class Account:
    """One holder: scaled balances by reserve id, collateral flags as a bitmap, eMode category."""

    flags: int = 0
    category: int = 0
    supplied: dict[int, int] = field(default_factory=dict)
    borrowed: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Ledger:
    """State of one market.

    `stopped` says why nothing in here may be relied on, `touched` collects the borrowers whose
    legs changed. Every `set_` method returns what takes the change back.
    """

    market: str
    reserves: dict[int, Reserve] = field(default_factory=dict)
    by_asset: dict[Address, Reserve] = field(default_factory=dict)
    by_supply_token: dict[Address, Reserve] = field(default_factory=dict)
    by_debt_token: dict[Address, Reserve] = field(default_factory=dict)
    accounts: dict[Address, Account] = field(default_factory=dict)
    categories: dict[int, Category] = field(default_factory=dict)
    debtors: set[Address] = field(default_factory=set)
    touched: set[Address] = field(default_factory=set)
    flash_premium: Bps = Bps(0)
    sentinel: Address = Address(bytes(20))
    stopped: str = ""

    def account(self, holder: Address) -> Account:
        """Return a holder's account, empty at first sight."""
        account = self.accounts.get(holder)
        if account is None:
            account = self.accounts[holder] = Account()
        return account

    def set_supplied(self, holder: Address, reserve: Reserve, scaled: int) -> Undo:
        """Replace an aToken balance."""
        account = self.account(holder)
        before = account.supplied.get(reserve.id, 0)
        self._put_supplied(holder, account, reserve, scaled)
        return partial(self._put_supplied, holder, account, reserve, before)

    def set_borrowed(self, holder: Address, reserve: Reserve, scaled: int) -> Undo:
        """Replace a debt."""
        account = self.account(holder)
        before = account.borrowed.get(reserve.id, 0)
        self._put_borrowed(holder, account, reserve, scaled)
        return partial(self._put_borrowed, holder, account, reserve, before)

    def set_flag(self, holder: Address, reserve: Reserve, *, used: bool) -> Undo:
        """Mark or unmark a supply as collateral."""
        account = self.account(holder)
        before = account.flags
        bit = 1 << reserve.id
        self._put_flags(holder, account, before | bit if used else before & ~bit)
        return partial(self._put_flags, holder, account, before)

    def set_category(self, holder: Address, category: int) -> Undo:
        """Move a holder to an eMode category."""
        account = self.account(holder)
        before = account.category
        self._put_category(holder, account, category)
        return partial(self._put_category, holder, account, before)

    def set_rates(
        self,
        reserve: Reserve,
        liquidity_index: int,
        liquidity_rate: int,
        borrow_index: int,
        borrow_rate: int,
        updated_at: int,
    ) -> Undo:
        """Replace a reserve's indexes and rates."""
        undo = partial(
            reserve.store,
            reserve.liquidity_index,
            reserve.liquidity_rate,
            reserve.borrow_index,
            reserve.borrow_rate,
            reserve.updated_at,
        )
        reserve.store(liquidity_index, liquidity_rate, borrow_index, borrow_rate, updated_at)
        return undo

    def set_configuration(self, reserve: Reserve, configuration: int) -> Undo:
        """Replace a reserve's parameter bitmap."""
        before = reserve.configuration
        self._put_configuration(reserve, configuration)
        return partial(self._put_configuration, reserve, before)

    def set_grace(self, reserve: Reserve, until: int) -> Undo:
        """Replace the time before which a reserve is not liquidated."""
        before = reserve.grace_until
        reserve.grace_until = until
        return partial(setattr, reserve, "grace_until", before)

    def set_deficit(self, reserve: Reserve, deficit: int) -> Undo:
        """Replace a reserve's bad debt."""
        before = reserve.deficit
        reserve.deficit = deficit
        return partial(setattr, reserve, "deficit", before)

    def set_terms(self, number: int, category: Category) -> Undo:
        """Replace an eMode category."""
        before = self.categories.get(number)
        self._put_terms(number, category)
        return partial(self._put_terms, number, before)

    def set_flash_premium(self, premium: Bps) -> Undo:
        """Replace the flash loan premium."""
        before, self.flash_premium = self.flash_premium, premium
        return partial(setattr, self, "flash_premium", before)

    def set_sentinel(self, sentinel: Address) -> Undo:
        """Replace the price oracle sentinel; zero is none."""
        before, self.sentinel = self.sentinel, sentinel
        return partial(setattr, self, "sentinel", before)

    def stop(self, reason: str) -> Undo:
        """Declare the state unreliable; the first reason stands."""
        before, self.stopped = self.stopped, self.stopped or reason
        return partial(setattr, self, "stopped", before)

    def list_reserve(self, reserve: Reserve) -> Undo:
        """Add a reserve."""
        self.reserves[reserve.id] = reserve
        self.by_asset[reserve.asset] = reserve
        self.by_supply_token[reserve.supply_token] = reserve
        self.by_debt_token[reserve.debt_token] = reserve
        return partial(self._delist, reserve)

    def drop_reserve(self, reserve: Reserve) -> Undo:
        """Remove a reserve, which the pool allows only when nobody holds any of it."""
        self._delist(reserve)

        def undo() -> None:
            self.list_reserve(reserve)

        return undo

    def free_id(self) -> int:
        """Return the id the next listed reserve gets (PoolLogic.executeInitReserve)."""
        number = 0
        while number in self.reserves:
            number += 1
        return number

    def _delist(self, reserve: Reserve) -> None:
        del self.reserves[reserve.id]
        del self.by_asset[reserve.asset]
        del self.by_supply_token[reserve.supply_token]
        del self.by_debt_token[reserve.debt_token]

    def _put_supplied(
        self, holder: Address, account: Account, reserve: Reserve, scaled: int
    ) -> None:
        before = account.supplied.get(reserve.id, 0)
        reserve.scaled_supply += scaled - before
        if scaled:
            account.supplied[reserve.id] = scaled
        else:
            account.supplied.pop(reserve.id, None)
        self._touch(holder, account)

    def _put_borrowed(
        self, holder: Address, account: Account, reserve: Reserve, scaled: int
    ) -> None:
        before = account.borrowed.get(reserve.id, 0)
        reserve.scaled_debt += scaled - before
        if scaled:
            account.borrowed[reserve.id] = scaled
        else:
            account.borrowed.pop(reserve.id, None)
        if account.borrowed:
            self.debtors.add(holder)
        else:
            self.debtors.discard(holder)
        self.touched.add(holder)

    def _put_flags(self, holder: Address, account: Account, flags: int) -> None:
        account.flags = flags
        self._touch(holder, account)

    def _put_category(self, holder: Address, account: Account, category: int) -> None:
        account.category = category
        self._touch(holder, account)

    def _put_configuration(self, reserve: Reserve, configuration: int) -> None:
        before = reserve.threshold
        reserve.configuration = configuration
        if reserve.threshold != before:
            self.touched.update(
                holder for holder in self.debtors if self.accounts[holder].flags >> reserve.id & 1
            )

    def _put_terms(self, number: int, category: Category | None) -> None:
        if category is None:
            del self.categories[number]
        else:
            self.categories[number] = category
        self.touched.update(
            holder for holder in self.debtors if self.accounts[holder].category == number
        )

    def _touch(self, holder: Address, account: Account) -> None:
        if account.borrowed:
            self.touched.add(holder)
