"""Markets and borrowers of one Morpho deployment; every change returns what takes it back."""

from dataclasses import dataclass, field, replace
from functools import partial

from keeper.errors import InvariantError
from keeper.protocols.morpho_blue.accounts import (
    EMPTY,
    Accounts,
    borrower_of,
    key_of,
    number_of,
    pack,
    unpack,
)
from keeper.protocols.morpho_blue.early import FIRST, Early
from keeper.protocols.morpho_blue.fixed import incentive_down, shares_down, wad_mul_down
from keeper.protocols.morpho_blue.rates import adaptive_rate, interest_down
from keeper.types import Token, Undo
from keeper.units import BPS, WAD, ZERO_ADDRESS, Address, Bps, Hash


@dataclass(frozen=True, slots=True)
class Terms:
    """What a market was created with, for good (IMorpho.MarketParams)."""

    loan: Address
    collateral: Address
    oracle: Address
    irm: Address
    lltv: int

    @property
    def incentive(self) -> int:
        """Return the liquidation incentive factor, in wad."""
        return incentive_down(self.lltv)

    @property
    def words(self) -> bytes:
        """Return the struct as calls carry it; its hash is the market's id."""
        named = (self.loan, self.collateral, self.oracle, self.irm)
        return b"".join(each.rjust(32, b"\0") for each in named) + self.lltv.to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class Totals:
    """What a market holds (IMorpho.Market), and the adaptive model's rate at target, 0 for none.

    `bad_debt` is what liquidations have written off at its lenders' cost since it was followed.
    """

    supply_assets: int = 0
    supply_shares: int = 0
    borrow_assets: int = 0
    borrow_shares: int = 0
    updated_at: int = 0
    fee: int = 0
    rate_at_target: int = 0
    bad_debt: int = 0


@dataclass(slots=True)
class Pool:
    """One of Morpho's own markets.

    `number` is its place in the order they were found. `adaptive` says that its rate model is the
    known one, else `rate` is what the model last told, None when it was not asked or not readable.
    """

    number: int
    id: Hash
    terms: Terms
    totals: Totals = field(default_factory=Totals)
    loan: Token | None = None
    collateral: Token | None = None
    adaptive: bool = False
    rate: int | None = None
    debtors: int = 0
    early: list[Early] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Return a short name: collateral, loan, threshold in percent, start of the id."""
        collateral = self.collateral.symbol if self.collateral else "?"
        loan = self.loan.symbol if self.loan else "?"
        percent = f"{self.terms.lltv / 1e16:.3g}"
        return f"{collateral}-{loan}-{percent}-{self.id[:4].hex()}"

    @property
    def threshold(self) -> Bps:
        """Return the liquidation threshold in basis points, rounded down."""
        return Bps(self.terms.lltv * BPS // WAD)

    @property
    def bonus(self) -> Bps:
        """Return the incentive in basis points, rounded down."""
        return Bps(self.terms.incentive * BPS // WAD)

    def at(self, timestamp: int) -> Totals | None:
        """Return the totals as an accrual at that time leaves them (Morpho._accrueInterest).

        None when the rate is not known.
        """
        now = self.totals
        elapsed = timestamp - now.updated_at
        if elapsed <= 0 or self.terms.irm == ZERO_ADDRESS:
            return now
        if not now.borrow_assets:
            return replace(now, updated_at=timestamp)
        target = now.rate_at_target
        if self.adaptive:
            rate, target = adaptive_rate(now.supply_assets, now.borrow_assets, target, elapsed)
        elif self.rate is None:
            return None
        else:
            rate = self.rate
        interest = interest_down(now.borrow_assets, rate, elapsed)
        supply = now.supply_assets + interest
        minted = 0
        if now.fee:
            cut = wad_mul_down(interest, now.fee)
            minted = shares_down(cut, supply - cut, now.supply_shares)
        return replace(
            now,
            supply_assets=supply,
            supply_shares=now.supply_shares + minted,
            borrow_assets=now.borrow_assets + interest,
            updated_at=timestamp,
            rate_at_target=target,
        )


@dataclass(slots=True)
class Ledger:
    """All markets by id and by number, and every borrower's record.

    `early` are the pre-liquidation contracts that are followed. An account of one is whoever
    authorised it: what it holds and owes is the borrower's record in its market.
    """

    market: str
    early: tuple[Early, ...] = ()
    pools: dict[Hash, Pool] = field(default_factory=dict)
    numbered: list[Pool] = field(default_factory=list)
    accounts: Accounts = field(default_factory=Accounts)
    touched: set[Address] = field(default_factory=set)
    debtors: int = 0
    terms: int = 0

    def create(self, identity: Hash, terms: Terms) -> Undo:
        """List a market; `terms` counts such changes."""
        if identity in self.pools:
            raise InvariantError(self.market, f"market 0x{identity.hex()} was created twice")
        early = [each for each in self.early if each.terms.id == identity]
        pool = Pool(len(self.numbered), identity, terms, early=early)
        self.pools[identity] = pool
        self.numbered.append(pool)
        self.terms += 1
        return partial(self._forget, pool)

    def _forget(self, pool: Pool) -> None:
        del self.pools[pool.id]
        self.numbered.pop()
        self.terms += 1

    def set_totals(self, pool: Pool, totals: Totals) -> Undo:
        """Replace a market's totals."""
        before = pool.totals
        for amount in (totals.supply_assets, totals.borrow_assets, totals.borrow_shares):
            if amount < 0 or amount >> 128:
                raise InvariantError(self.market, f"a total of 0x{pool.id.hex()} is {amount}")
        pool.totals = totals
        return partial(setattr, pool, "totals", before)

    def change(self, pool: Pool, borrower: Address, collateral: int, shares: int) -> Undo:
        """Add to a borrower's collateral and borrow shares."""
        key = key_of(pool.number, borrower)
        before = self.accounts.get(key)
        held, owed = unpack(before)
        try:
            after = pack(held + collateral, owed + shares)
        except OverflowError as error:
            who = f"0x{borrower.hex()} in 0x{pool.id.hex()}"
            raise InvariantError(self.market, f"{who} would hold {held + collateral}") from error
        self.put(pool, key, after)
        return partial(self.put, pool, key, before)

    def put(self, pool: Pool, key: Address, record: bytes) -> None:
        """Keep a record and count who owes."""
        owed, owes = unpack(self.accounts.get(key))[1] > 0, unpack(record)[1] > 0
        pool.debtors += owes - owed
        self.debtors += owes - owed
        self.accounts.put(key, record)
        self.touched.add(key)
        if pool.early:
            who = borrower_of(key)
            self.touched.update(
                key_of(each.number, who) for each in pool.early if who in each.authorisers
            )

    def pool_of(self, number: int) -> tuple[Pool, Early | None]:
        """Return the market a place is in, and the contract when the place is one."""
        if number < FIRST:
            return self.numbered[number], None
        early = self.early[number - FIRST]
        return self.pools[early.terms.id], early

    def record(self, key: Address) -> bytes:
        """Return what an account holds and owes."""
        number = number_of(key)
        if number < FIRST:
            return self.accounts.get(key)
        pool, early = self.pool_of(number)
        who = borrower_of(key)
        if early is None or who not in early.authorisers:
            return EMPTY
        return self.accounts.get(key_of(pool.number, who))

    def class_of(self, number: int) -> int:
        """Return the screen's class of a place: the contracts come first, for they are no more."""
        return number - FIRST if number >= FIRST else len(self.early) + number

    def authorise(self, early: Early, who: Address, *, given: bool) -> Undo | None:
        """Take note of who lets a contract act, or no more."""
        if given == (who in early.authorisers):
            return None
        self._set_authorised(early, who, given)
        return partial(self._set_authorised, early, who, not given)

    def _set_authorised(self, early: Early, who: Address, given: bool) -> None:
        (early.authorisers.add if given else early.authorisers.discard)(who)
        self.touched.add(key_of(early.number, who))
