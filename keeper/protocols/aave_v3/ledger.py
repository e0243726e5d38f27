"""Every balance, flag and parameter of one market, each change with what takes it back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from keeper.errors import InvariantError
from keeper.protocols.aave_v3.accounts import (
    RESERVES,
    STRIDE,
    Account,
    Accounts,
    amount,
    find,
    has_debt,
    unpack,
    with_amount,
    with_header,
)
from keeper.protocols.aave_v3.classes import Classes
from keeper.protocols.aave_v3.eras import V36, Era
from keeper.protocols.aave_v3.reserve import DECIMALS, Reserve
from keeper.protocols.aave_v3.stable import Stable
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
class Ledger:
    """State of one market.

    `stable` has debts at stable rates by borrower and reserve id.
    `stopped` says why nothing in here may be relied on, `touched` collects the borrowers whose
    legs changed, `terms` counts what may change the contracts, the classes or their thresholds.
    Every `set_` method returns what takes the change back, and changes nothing when it raises.
    """

    market: str
    reserves: dict[int, Reserve] = field(default_factory=dict)
    by_asset: dict[Address, Reserve] = field(default_factory=dict)
    by_supply_token: dict[Address, Reserve] = field(default_factory=dict)
    by_debt_token: dict[Address, Reserve] = field(default_factory=dict)
    accounts: Accounts = field(default_factory=Accounts)
    categories: dict[int, Category] = field(default_factory=dict)
    borrowers: int = 0
    flash_premium: Bps = Bps(0)
    sentinel: Address = Address(bytes(20))
    stable: dict[Address, Mapping[int, Stable]] = field(default_factory=dict)
    stopped: str = ""
    era: Era = field(default=V36, repr=False)
    touched: set[Address] = field(default_factory=set, compare=False)
    classes: Classes = field(default_factory=Classes, compare=False)
    terms: int = field(default=0, compare=False)

    def account(self, holder: Address) -> Account:
        """Return a holder's balances and flags, unpacked."""
        return unpack(self.accounts.get(holder))

    def supplied(self, holder: Address, reserve: Reserve) -> int:
        """Return a holder's scaled aToken balance."""
        record = self.accounts.get(holder)
        return amount(record, find(record, reserve.id << 1))

    def owed(self, holder: Address, reserve: Reserve) -> int:
        """Return a holder's scaled debt."""
        record = self.accounts.get(holder)
        return amount(record, find(record, reserve.id << 1 | 1))

    def set_supplied(self, holder: Address, reserve: Reserve, scaled: int) -> Undo:
        """Replace an aToken balance; raise `InvariantError` for one over 128 bits."""
        number = reserve.id << 1
        record, before = self.accounts.get(holder), reserve.scaled_supply
        at = find(record, number)
        self.accounts.put(holder, self.changed(holder, record, at, number, scaled))
        if at < 0:
            self.know(record[0], (reserve.id,))
        reserve.scaled_supply = before + scaled - amount(record, at)
        if has_debt(record):
            self.touched.add(holder)
        return partial(self.unput_supplied, holder, record, reserve, before)

    def set_borrowed(self, holder: Address, reserve: Reserve, scaled: int) -> Undo:
        """Replace a debt; raise `InvariantError` for one over 128 bits."""
        number = reserve.id << 1 | 1
        record, before, borrowers = self.accounts.get(holder), reserve.scaled_debt, self.borrowers
        at = find(record, number)
        after = self.changed(holder, record, at, number, scaled)
        self.accounts.put(holder, after)
        self.borrowers = borrowers + has_debt(after) - has_debt(record)
        reserve.scaled_debt = before + scaled - amount(record, at)
        self.touched.add(holder)
        return partial(self.unput_borrowed, holder, record, reserve, before, borrowers)

    def set_stable(self, holder: Address, reserve: Reserve, debt: Stable) -> Undo:
        """Replace a debt at a stable rate; one without principal is none."""
        before = self.stable.get(holder, {})
        after = {**before, reserve.id: debt}
        if not debt.principal:
            del after[reserve.id]
        self._put_stable(holder, after)
        return partial(self._put_stable, holder, before)

    def _put_stable(self, holder: Address, debts: Mapping[int, Stable]) -> None:
        if debts:
            self.stable[holder] = debts
        else:
            self.stable.pop(holder, None)
        if has_debt(self.accounts.get(holder)):
            self.touched.add(holder)

    def set_flag(self, holder: Address, reserve: Reserve, *, used: bool) -> Undo:
        """Mark or unmark a supply as collateral."""
        record = self.accounts.get(holder)
        flags, bit = amount(record, 0), 1 << reserve.id
        return self._put(
            holder, record, with_header(record, record[0], flags | bit if used else flags & ~bit)
        )

    def set_category(self, holder: Address, category: int) -> Undo:
        """Move a holder to an eMode category; raise `InvariantError` for one over 8 bits."""
        record = self.accounts.get(holder)
        try:
            after = with_header(record, category, amount(record, 0))
        except OverflowError:
            raise self._overflow(holder, category) from None
        self.know(category, (number >> 1 for number in record[STRIDE::STRIDE] if not number & 1))
        return self._put(holder, record, after)

    def know(self, category: int, reserves: Iterable[int]) -> None:
        """Number the classes of a category's members who hold these reserves."""
        before = len(self.classes)
        for reserve in reserves:
            self.classes.number(category, reserve)
        if len(self.classes) != before:
            self.terms += 1

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
        """Declare the state unreliable; the last reason stands, so that each is told."""
        before, self.stopped = self.stopped, reason
        return partial(setattr, self, "stopped", before)

    def list_reserve(self, reserve: Reserve) -> Undo:
        """Add a reserve; raise `InvariantError` for an id that no bitmap of the pool can hold."""
        if not 0 <= reserve.id < RESERVES:
            raise InvariantError(self.market, f"reserve id {reserve.id} is out of range")
        self.terms += 1
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
        self.terms += 1
        del self.reserves[reserve.id]
        del self.by_asset[reserve.asset]
        del self.by_supply_token[reserve.supply_token]
        del self.by_debt_token[reserve.debt_token]

    def _put_configuration(self, reserve: Reserve, configuration: int) -> None:
        self.terms += 1
        if reserve.token is not None:
            # They were read, and no event tells them: what is taken back is older than they are.
            configuration &= ~DECIMALS
            configuration |= reserve.configuration & DECIMALS
        reserve.configuration = configuration

    def _put_terms(self, number: int, category: Category | None) -> None:
        self.terms += 1
        if category is None:
            del self.categories[number]
        else:
            self.categories[number] = category

    def put(self, holder: Address, record: bytes, after: bytes) -> None:
        """Replace a holder's record by one with the same debts."""
        self.accounts.put(holder, after)
        if has_debt(record):
            self.touched.add(holder)

    def _put(self, holder: Address, record: bytes, after: bytes) -> Undo:
        self.put(holder, record, after)
        return partial(self.put, holder, after, record)

    def unput_supplied(self, holder: Address, record: bytes, reserve: Reserve, total: int) -> None:
        """Take back one change of an aToken balance: the holder's record, the reserve's total."""
        reserve.scaled_supply = total
        self.put(holder, record, record)

    def unput_borrowed(
        self, holder: Address, record: bytes, reserve: Reserve, total: int, borrowers: int
    ) -> None:
        """Take back one change of a debt, and how many borrowers there were."""
        reserve.scaled_debt = total
        self.borrowers = borrowers
        self.accounts.put(holder, record)
        self.touched.add(holder)

    def unput_both(self, recipient: Address, target: bytes, sender: Address, source: bytes) -> None:
        """Take back one move between two holders: the records of both."""
        self.put(recipient, target, target)
        self.put(sender, source, source)

    def changed(self, holder: Address, record: bytes, at: int, number: int, scaled: int) -> bytes:
        """Return a record `with_amount`; raise `InvariantError` for one over 128 bits."""
        try:
            return with_amount(record, at, number, scaled)
        except OverflowError:
            raise self._overflow(holder, scaled) from None

    def unlisted(self, asset: Address) -> InvariantError:
        """Return the error for an event that names a reserve the pool does not list."""
        return InvariantError(self.market, f"an event names the unlisted reserve 0x{asset.hex()}")

    def _overflow(self, holder: Address, value: int) -> InvariantError:
        return InvariantError(self.market, f"{value} of 0x{holder.hex()} does not fit the ledger")
