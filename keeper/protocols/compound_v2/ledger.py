"""Every balance, membership and parameter of one market, each change with what takes it back."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from keeper.errors import InvariantError
from keeper.protocols.compound_v2.columns import Column
from keeper.protocols.compound_v2.ctoken import CToken, Debt, Terms
from keeper.protocols.compound_v2.vai import Minted, Unread, Vai
from keeper.types import Undo
from keeper.units import ZERO_ADDRESS, Address

CORE = 0
"""The pool of everybody who chose none."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One of Venus' pools: whether it counts, and what a cToken it does not list counts for."""

    is_active: bool = True
    falls_back: bool = True


@dataclass(slots=True)
class Ledger:
    """State of one market under one comptroller.

    `entered` are the cTokens a holder entered, `owing` those it owes, one bit for each id; `chosen` is
    the pool of who left the core. `has_thresholds` says that collateral factors do not decide who is
    liquidated, `tells_incentives` that each cToken has its own. `minters` owe VAI; without `vai` nothing
    is known of how much, and `unread` are those among them whose debts are to be read, the longest
    waiting first. `stopped` says why nothing in here may be relied on, `touched` collects borrowers
    whose legs changed, `terms` counts what changes thresholds. Every `set_` returns what takes the
    change back, and changes nothing when it raises.
    """

    market: str
    by_seconds: bool = False
    has_thresholds: bool = False
    tells_incentives: bool = False
    ctokens: list[CToken] = field(default_factory=list)
    by_address: dict[Address, CToken] = field(default_factory=dict)
    entered: Column[int] = field(default_factory=Column)
    owing: Column[int] = field(default_factory=Column)
    chosen: Column[int] = field(default_factory=Column)
    pools: dict[int, Pool] = field(default_factory=dict)
    close_factor: int = 0
    redeem_fee: int = 0
    is_paused: bool = False
    liquidator: Address = ZERO_ADDRESS
    treasury_share: int = 0
    minimum_collateral: int = 0
    restricted: set[Address] = field(default_factory=set)
    vai: Vai | None = None
    minters: dict[Address, Minted | Unread] = field(default_factory=dict)
    stopped: str = ""
    unread: dict[Address, None] = field(default_factory=dict, init=False, compare=False)
    touched: set[Address] = field(default_factory=set, compare=False)
    terms: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        """Find who is unread among minters that were given."""
        self.unread = {who: None for who, debt in self.minters.items() if isinstance(debt, Unread)}

    def list_ctoken(self, ctoken: CToken) -> None:
        """Add a cToken; ids ascend from 0."""
        if ctoken.id != len(self.ctokens):
            raise InvariantError(self.market, f"cToken id {ctoken.id} is out of turn")
        self.ctokens.append(ctoken)
        self.by_address[ctoken.address] = ctoken

    def freeze(self) -> "Ledger":
        """Return a ledger that stays as this one is now; no holder is copied."""
        ctokens = [
            replace(
                each,
                balances=each.balances.freeze(),
                debts=each.debts.freeze(),
                terms=each.terms.copy(),
            )
            for each in self.ctokens
        ]
        return replace(
            self,
            ctokens=ctokens,
            by_address={each.address: each for each in ctokens},
            entered=self.entered.freeze(),
            owing=self.owing.freeze(),
            chosen=self.chosen.freeze(),
            pools=self.pools.copy(),
            restricted=self.restricted.copy(),
            vai=None if self.vai is None else replace(self.vai),
            minters=self.minters.copy(),
            touched=set(),
        )

    def terms_of(self, pool: int, ctoken: CToken) -> Terms:
        """Return what a cToken counts for in a pool (MarketFacet.getLiquidationParams)."""
        core = ctoken.terms.get(CORE, Terms())
        if pool == CORE:
            return core
        about = self.pools.get(pool, Pool(is_active=False))
        if not about.is_active:
            return core
        if pool in ctoken.terms:
            return ctoken.terms[pool]
        return core if about.falls_back else Terms()

    def set_balance(self, holder: Address, ctoken: CToken, balance: int) -> Undo:
        """Replace a holder's cTokens; raise `InvariantError` for less than none."""
        if balance < 0:
            shown = f"{ctoken.token.symbol} of 0x{holder.hex()}"
            raise InvariantError(self.market, f"a transfer leaves {balance} {shown}")
        before = ctoken.balances.get(holder, 0)
        self._put(holder, ctoken.balances, balance, 0)
        return partial(self._put, holder, ctoken.balances, before, 0)

    def set_debt(self, borrower: Address, ctoken: CToken, debt: Debt) -> Undo:
        """Replace a debt; one without principal is none."""
        before = ctoken.debts.get(borrower, (0, 0))
        self._put_debt(borrower, ctoken, debt)
        return partial(self._put_debt, borrower, ctoken, before)

    def set_entered(self, holder: Address, ctoken: CToken, *, entered: bool) -> Undo:
        """Mark or unmark a cToken as counted for a holder."""
        before, bit = self.entered.get(holder, 0), 1 << ctoken.id
        after = before | bit if entered else before & ~bit
        self._put(holder, self.entered, after, 0)
        return partial(self._put, holder, self.entered, before, 0)

    def set_pool(self, holder: Address, pool: int) -> Undo:
        """Move a holder to a pool."""
        before = self.chosen.get(holder, CORE)
        self._put(holder, self.chosen, pool, CORE)
        return partial(self._put, holder, self.chosen, before, CORE)

    def set_terms(self, ctoken: CToken, pool: int, terms: Terms) -> Undo:
        """Replace what a cToken counts for in a pool."""
        before = ctoken.terms.get(pool)
        self._put_terms(ctoken, pool, terms)
        return partial(self._put_terms, ctoken, pool, before)

    def set_about(self, pool: int, about: Pool) -> Undo:
        """Replace what is said of a pool."""
        before = self.pools.get(pool, Pool())
        self._put_pool(pool, about)
        return partial(self._put_pool, pool, before)

    def set_value(self, of: object, name: str, value: Any) -> Undo:
        """Replace one plain field of the ledger or of a cToken."""
        before = getattr(of, name)
        setattr(of, name, value)
        return partial(setattr, of, name, before)

    def set_member(self, members: set[Address], account: Address, *, member: bool) -> Undo:
        """Put an account into a set, or take it out."""
        before = account in members
        _mark(members, account, member=member)
        return partial(_mark, members, account, member=before)

    def set_minter(self, account: Address, debt: Minted | Unread | None) -> Undo:
        """Replace what is known of a debt in VAI; None is none."""
        before = self.minters.get(account)
        self._put_minter(account, debt)
        return partial(self._put_minter, account, before)

    def stop(self, reason: str) -> Undo:
        """Declare the state unreliable; the last reason stands."""
        return self.set_value(self, "stopped", reason)

    def _put(self, holder: Address, column: Column[int], value: int, nothing: int) -> None:
        if value == nothing:
            column.pop(holder, None)
        else:
            column[holder] = value
        if holder in self.owing:
            self.touched.add(holder)

    def _put_debt(self, borrower: Address, ctoken: CToken, debt: Debt) -> None:
        owing, bit = self.owing.get(borrower, 0), 1 << ctoken.id
        if debt[0]:
            ctoken.debts[borrower] = debt
            self.owing[borrower] = owing | bit
        else:
            ctoken.debts.pop(borrower, None)
            if owing & ~bit:
                self.owing[borrower] = owing & ~bit
            else:
                self.owing.pop(borrower, None)
        self.touched.add(borrower)

    def _put_minter(self, account: Address, debt: Minted | Unread | None) -> None:
        if debt is None:
            self.minters.pop(account, None)
        else:
            self.minters[account] = debt
        if isinstance(debt, Unread):
            self.unread[account] = None
        else:
            self.unread.pop(account, None)
        if account in self.owing:
            self.touched.add(account)

    def _put_terms(self, ctoken: CToken, pool: int, terms: Terms | None) -> None:
        self.terms += 1
        if terms is None:
            ctoken.terms.pop(pool, None)
        else:
            ctoken.terms[pool] = terms

    def _put_pool(self, pool: int, about: Pool) -> None:
        self.terms += 1
        self.pools[pool] = about


def _mark(members: set[Address], account: Address, *, member: bool) -> None:
    if member:
        members.add(account)
    else:
        members.discard(account)
