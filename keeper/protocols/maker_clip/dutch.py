"""Auctions whose price falls (Maker's and Sky's Dog and Clipper), and the moment to take one.

Amounts in wad, prices in ray, money in rad, as there. Sources: makerdao/dss dog.sol (bark), clip.sol
(kick, take, redo, status) and abaci.sol; divisions round down but for `rpow_near`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import assert_never

from keeper.units import MAX_UINT256, RAY, WAD

PPM = 1_000_000


def rpow_near(base: int, exponent: int) -> int:
    """Return a power in ray, each product rounded half up (abaci.sol: rpow).

    Raises `ValueError` for an exponent below zero.
    """
    if exponent < 0:
        raise ValueError(f"{exponent} is no duration")
    if exponent == 0:
        return RAY
    found = base if exponent & 1 else RAY
    exponent >>= 1
    while exponent:
        base = (base * base + RAY // 2) // RAY
        if exponent & 1:
            found = (found * base + RAY // 2) // RAY
        exponent >>= 1
    return found


@dataclass(frozen=True, slots=True)
class Stairstep:
    """The price is multiplied by `cut` (ray) every `step` seconds."""

    cut: int
    step: int


@dataclass(frozen=True, slots=True)
class Linear:
    """The price falls evenly to nothing in `tau` seconds."""

    tau: int


@dataclass(frozen=True, slots=True)
class Exponential:
    """The price is multiplied by `cut` (ray) every second."""

    cut: int


Calculator = Stairstep | Linear | Exponential


def price_down(calculator: Calculator, top: int, duration: int) -> int:
    """Return the price so many seconds after the start (abaci.sol: price)."""
    match calculator:
        case Stairstep(cut, step):
            return top * rpow_near(cut, duration // step) // RAY
        case Exponential(cut):
            return top * rpow_near(cut, duration) // RAY
        case Linear(tau):
            return top * ((tau - duration) * RAY // tau) // RAY if duration < tau else 0
        case never:
            assert_never(never)


@dataclass(frozen=True, slots=True)
class Vault:
    """What `bark` looks at: collateral and debt of an urn, and its kind's figures.

    `room` is what may still be auctioned (rad), `chop` the penalty (wad, 1.13e18 for 13 %).
    """

    ink: int
    art: int
    rate: int
    spot: int
    dust: int
    room: int
    chop: int


@dataclass(frozen=True, slots=True)
class Barked:
    """What a bark puts up: `lot` of collateral for `tab` (rad), `art` of the debt cancelled."""

    lot: int
    tab: int
    art: int


def bark(vault: Vault) -> Barked | None:
    """Return what may be auctioned now, None when the call would revert (dog.sol: bark)."""
    if not vault.spot or vault.ink * vault.spot >= vault.art * vault.rate or vault.room <= 0:
        return None
    art = min(vault.art, vault.room * WAD // vault.rate // vault.chop)
    if art < vault.art:
        if (vault.art - art) * vault.rate < vault.dust:
            art = vault.art
        elif art * vault.rate < vault.dust:
            return None
    lot = vault.ink * art // vault.art
    return Barked(lot, art * vault.rate * vault.chop // WAD, art) if lot else None


def reward_down(tab: int, tip: int, chip: int) -> int:
    """Return what the caller of `bark` or a worthwhile `redo` is paid, in rad: `tip` and a share."""
    return tip + tab * chip // WAD


@dataclass(frozen=True, slots=True)
class Auction:
    """One auction: `tab` (rad) is wanted for at most `lot`, from `top` at the time `tic` on.

    It ends after `tail` seconds, or when less than `cusp` (ray) of the top is left; `chost` (rad) is
    the least that may be left of the tab.
    """

    lot: int
    tab: int
    tic: int
    top: int
    calculator: Calculator
    tail: int
    cusp: int
    chost: int

    def price_at(self, timestamp: int) -> int:
        """Return the price at a time."""
        return price_down(self.calculator, self.top, timestamp - self.tic)

    def next_change(self, timestamp: int) -> int:
        """Return when the price next falls after a time: what has been decided holds until then."""
        if isinstance(self.calculator, Stairstep):
            step = self.calculator.step
            return self.tic + ((timestamp - self.tic) // step + 1) * step
        return timestamp + 1

    def needs_redo(self, timestamp: int) -> bool:
        """Tell whether it has to be started anew before anyone can take (clip.sol: status)."""
        if timestamp - self.tic > self.tail:
            return True
        return self.price_at(timestamp) * RAY // self.top < self.cusp

    def pays_redo(self, feed: int) -> bool:
        """Tell whether starting it anew is rewarded, at the feed's price in ray (clip.sol: redo)."""
        return self.tab >= self.chost and self.lot * feed >= self.chost


@dataclass(frozen=True, slots=True)
class Taken:
    """What a take does: `slice` of the collateral for `owe` (rad)."""

    slice: int
    owe: int

    @property
    def cost_up(self) -> int:
        """Return the tokens to join for it, in wad."""
        return -(-self.owe // RAY)


def take(auction: Auction, amount: int, timestamp: int) -> Taken | None:
    """Return what taking up to an amount does, None when the call would revert (clip.sol: take)."""
    if auction.needs_redo(timestamp):
        return None
    return buy(auction, amount, auction.price_at(timestamp))


def buy(auction: Auction, amount: int, price: int) -> Taken | None:
    """Return what taking up to an amount at a price does, None when the call would revert."""
    part = min(auction.lot, amount)
    owe = part * price
    if owe > auction.tab:
        owe = auction.tab
        part = owe // price
    elif owe < auction.tab and part < auction.lot and auction.tab - owe < auction.chost:
        if auction.tab <= auction.chost:
            return None
        owe = auction.tab - auction.chost
        part = owe // price
    return Taken(part, owe)


def affordable_down(auction: Auction, pay: int, price: int) -> int:
    """Return the collateral to ask for with so much money, in wad (auctioneer.vy: take).

    Where it pays for all that is wanted that is the lot: the rounded part would leave less than
    `chost` of the tab, and so be cut or refused.
    """
    return auction.lot if pay * RAY >= auction.tab else min(auction.lot, pay * RAY // price)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time to take an auction at, with what that brings in wad of the token, costs paid."""

    timestamp: int
    taken: Taken
    profit: int


Sale = Callable[[int], int]
"""Tells what an amount of collateral brings, in wad of the token; 0 when it cannot be sold."""


def moments(auction: Auction, sale: Sale, cost: int, times: Iterable[int]) -> Iterator[Moment]:
    """Yield what taking all would bring at each time that changes the price, until it ends.

    `times` ascend: those of the blocks to come. Within a step of the price only its first counts.
    """
    due = 0
    for timestamp in times:
        if timestamp < due:
            continue
        taken = take(auction, MAX_UINT256, timestamp)
        if taken is None:
            return
        due = auction.next_change(timestamp)
        yield Moment(timestamp, taken, sale(taken.slice) - taken.cost_up - cost)


def best_moment(found: Iterable[Moment], survival_ppm: int) -> Moment | None:
    """Return the first moment that pays at which waiting is worth less than the risk of losing it.

    `survival_ppm` is how likely an auction that pays is still there one moment later. What waiting is
    worth is worked out from the last moment back: the better of taking then and waiting on, if it is
    still there. While none pays nobody takes it, so nothing is risked. None when no moment pays.
    """
    best: Moment | None = None
    worth = 0
    for moment in reversed(list(found)):
        waiting = worth * survival_ppm if moment.profit > 0 else worth * PPM
        if moment.profit > 0 and moment.profit * PPM >= waiting:
            best, worth = moment, moment.profit
        else:
            worth = waiting // PPM
    return best


def survival_ppm(there: int, gone: int) -> int:
    """Return how likely an auction that pays lasts one moment more, from what was seen before.

    `there` counts the moments an auction that paid outlived, `gone` those at which it was taken.
    One of each is added, so that nothing is certain.
    """
    return (there + 1) * PPM // (there + gone + 2)
