"""Which wallet sends which plan: independent plans side by side, dependent ones in line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from keeper.execution.flight import Flights
from keeper.execution.wallet import Wallet, needed_up
from keeper.types import FlashKind, Plan, hops_of
from keeper.units import Address, Wei

Mark = tuple[str, str, Address]
Reserve = tuple[str, Address]

LANE_CAP = 16
"""Transactions a node keeps of one account for certain (geth `txpool.accountslots`)."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One sending account: what it holds, what of it is reserved, and what is on its way.

    A blocked one takes no plans while another can: what is first on it waits, or may not have arrived,
    or its signer failed lately, or a transaction that is not ours is not mined.
    One with a gap is asked first: what waits on it waits for a plan on the nonce before.
    """

    address: Address
    balance: Wei
    reserved: Wei
    pending: int
    is_blocked: bool
    has_gap: bool = False


class Lanes:
    """The wallets of one chain, each with its own nonces."""

    def __init__(self, wallets: Sequence[Wallet], flights: Flights, cap: int) -> None:
        self._wallets = {wallet.address: wallet for wallet in wallets}
        self._flights = flights
        self._cap = cap
        self._needed = Wei(0)
        if len(self._wallets) != len(wallets):
            raise ValueError("two lanes hold the same key")

    def __iter__(self) -> Iterator[Wallet]:
        return iter(self._wallets.values())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._wallets)

    def of(self, address: Address) -> Wallet | None:
        """Return the wallet of an address, None when it is not ours now."""
        return self._wallets.get(address)

    def states(self, timestamp: int) -> list[Lane]:
        """Return how each lane stands at a head's time."""
        return [
            Lane(
                wallet.address,
                wallet.balance,
                self._flights.reserved(wallet.address),
                self._flights.pending(wallet.address),
                wallet.is_silent(timestamp)
                or wallet.is_barred(timestamp)
                or (self._flights.is_blocked(wallet.address) and not wallet.nonces.has_gap),
                wallet.nonces.has_gap,
            )
            for wallet in self
        ]

    def poorest(self) -> Address | None:
        """Return the wallet with the least native coin; None without any."""
        return min(self._wallets, key=lambda lane: self._wallets[lane].balance, default=None)

    def payee(self, timestamp: int) -> Address | None:
        """Return whom a refill goes to: the poorest that could pay for what was asked last.

        One that cannot sends nothing, nor does one whose signer failed by a head's time while another
        can, and a refill goes to whoever sends it.
        """
        speaking = [wallet for wallet in self if not wallet.is_silent(timestamp)] or list(self)
        able = [wallet for wallet in speaking if wallet.balance >= self._needed] or speaking
        return min(able, key=lambda wallet: wallet.balance).address if able else None

    def assign(self, plans: Sequence[Plan]) -> tuple[list[Plan], list[Plan]]:
        """Return the plans with their senders, and those that wait for room on a lane."""
        if plans:
            self._needed = min(needed_up([plan]) for plan in plans)
        timestamp = max((plan.head.timestamp for plan in plans), default=0)
        return assign(plans, self.states(timestamp), self._cap)


def assign(plans: Sequence[Plan], lanes: Sequence[Lane], cap: int) -> tuple[list[Plan], list[Plan]]:
    """Give each plan a lane that is not blocked, with the fewest in flight, then the most balance.

    Plans that rest on each other go to one lane, where none can overtake another; what does not fit
    on it waits, and so does what rests on that. Blocked lanes serve when all are, one with a gap
    before all others as long as it can pay. A refill goes to whoever sends it: such a plan is for
    the poorest that can pay for it.
    """
    pending = {lane.address: lane.pending for lane in lanes}
    free = {lane.address: lane.balance - lane.reserved for lane in lanes}
    taken: dict[Address, list[Plan]] = {lane.address: [] for lane in lanes}
    gaps = {lane.address for lane in lanes if lane.has_gap}
    usable = [lane.address for lane in lanes if not lane.is_blocked] or list(pending)
    lines = in_lines(plans)
    chosen: dict[int, Address] = {}
    full: set[int] = set()
    sent: list[Plan] = []
    waiting: list[Plan] = []
    for plan, line in zip(plans, lines, strict=True):
        if plan.sender in pending:
            sent.append(plan)
            continue
        if line not in chosen:
            chosen[line] = min(usable, key=partial(_rank, plan, pending, free, taken, cap, gaps))
        lane = chosen[line]
        if line in full or pending[lane] >= cap:
            full.add(line)
            waiting.append(plan)
            continue
        pending[lane] += 1
        gaps.discard(lane)
        taken[lane].append(plan)
        sent.append(replace(plan, sender=lane))
    return sent, waiting


def _rank(
    plan: Plan,
    pending: Mapping[Address, int],
    free: Mapping[Address, int],
    taken: Mapping[Address, Sequence[Plan]],
    cap: int,
    gaps: set[Address],
    lane: Address,
) -> tuple[bool, bool, bool, int, int, int]:
    is_short = free[lane] < needed_up([*taken[lane], plan])
    left = free[lane] - sum(other.worst_cost for other in taken[lane])
    return (
        pending[lane] >= cap,
        lane not in gaps or is_short,
        is_short,
        left if plan.refill else 0,
        pending[lane],
        -left,
    )


def in_lines(plans: Sequence[Plan]) -> list[int]:
    """Return a number for each plan, the same for plans that rest on each other."""
    lines = list(range(len(plans)))
    if len(plans) < 2:
        return lines
    marks = [_marks(plan) for plan in plans]
    lenders = [_lenders(plan) for plan in plans]
    moved = [_moved(plan) for plan in plans]
    for index in range(len(plans)):
        for before in range(index):
            gives, takes = moved[index]
            others_gives, others_takes = moved[before]
            if (
                marks[index] & marks[before]
                or marks[index] & lenders[before]
                or lenders[index] & marks[before]
                or others_gives & takes
                or gives & others_takes
            ):
                both = {lines[index], lines[before]}
                lines = [min(both) if line in both else line for line in lines]
    return lines


def _marks(plan: Plan) -> set[Mark]:
    """Return what a plan must not find changed: pools' prices, own capital, positions.

    The pools an offer stands in for count as well: a sale may come to go through them.
    """
    marks: set[Mark] = set()
    for quote in plan.quotes:
        position = quote.opportunity.position
        marks.add(("position", position.market, position.borrower))
        for routes in (quote.routes, quote.fallback):
            marks.update(("pool", "", hop.pool) for hop in hops_of(routes))
        if quote.flash.kind is FlashKind.INVENTORY:
            marks.add(("capital", "", quote.flash.token))
    if plan.sweep is not None:
        marks.add(("capital", "", plan.sweep.token.address))
    return marks


def _lenders(plan: Plan) -> set[Mark]:
    """Return the pools of those who lend to a plan: a sale there changes what they have to lend."""
    return {("pool", "", pool) for quote in plan.quotes for pool in quote.flash.shuts}


def _moved(plan: Plan) -> tuple[set[Reserve], set[Reserve]]:
    """Return which reserves a plan repays, and which it takes collateral out of."""
    gives: set[Reserve] = set()
    takes: set[Reserve] = set()
    for quote in plan.quotes:
        market = quote.opportunity.position.home
        gives.add((market, quote.debt.address))
        takes.update((market, step.terms.collateral.address) for step in quote.steps)
    return gives, takes
