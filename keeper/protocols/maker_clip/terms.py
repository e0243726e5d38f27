"""What the calls on auctions pay: taking one, starting one, starting one anew."""

from dataclasses import dataclass
from enum import IntEnum

from keeper.protocols.maker_clip.dutch import Auction, Taken, affordable_down, buy
from keeper.types import Seizure, Token
from keeper.units import BPS, RAY, WAD, Bps

ONE_CALL = 1
"""The least amount stands for a call that is rewarded: nothing is repaid for it."""
TAKE_GAS = 150_000
BARK_GAS = 330_000
REDO_GAS = 90_000
"""What the calls take beyond one of Aave's liquidations, at worst (`python -m tests.bench.maker`)."""


class Way(IntEnum):
    """What is called of the auctioneer; calls of one way share a group."""

    TAKE = 0
    BARK = 1
    REDO = 2


@dataclass(frozen=True, slots=True)
class TakeTerms:
    """One auction at the price of the next block, in ray; all of it, or any part Maker allows.

    A later block's price is lower, so that the same money buys no less.
    """

    collateral: Token
    debt: Token
    auction: Auction
    price: int
    feed: int
    way: int = Way.TAKE

    @property
    def maximum(self) -> int:
        """Return what all that may be taken costs."""
        taken = buy(self.auction, self.auction.lot, self.price)
        return taken.cost_up if taken else 0

    @property
    def bonus(self) -> Bps:
        """Return what the collateral is worth at the feed's price, as a share of what it costs."""
        return Bps(BPS * self.feed * (RAY // WAD) // self.price)

    @property
    def scaled_debt(self) -> int:
        """Return the collateral that is there, as `for_sale` says it."""
        return self.auction.lot

    def legal_down(self, repay: int) -> int:
        """Return what the largest part costs that so much buys; 0 when Maker sells none of that size."""
        taken = self._bought(repay)
        return taken.cost_up if taken else 0

    def seize(self, repay: int) -> Seizure:
        """Return what so much money buys, and how much of it is needed."""
        taken = self._bought(repay)
        if taken is None:
            return Seizure(0, 0, 0)
        return Seizure(taken.cost_up, taken.slice, 0, is_exact=True, extra_gas=TAKE_GAS)

    def _bought(self, repay: int) -> Taken | None:
        amount = affordable_down(self.auction, repay, self.price)
        return buy(self.auction, amount, self.price) if amount else None


@dataclass(frozen=True, slots=True)
class RewardTerms:
    """A call that Maker rewards with `reward` of the stablecoin, in wad: a bark or a redo.

    `there` is what its view says before: the urn's debt, or the lot that waits. `rest` is what a bark
    leaves of the urn, collateral and debt.
    """

    debt: Token
    reward: int
    there: int
    way: int
    rest: tuple[int, int] = (0, 0)

    @property
    def collateral(self) -> Token:
        """Return the stablecoin: it is what comes."""
        return self.debt

    @property
    def maximum(self) -> int:
        """Return the amount that stands for the call."""
        return ONE_CALL

    @property
    def bonus(self) -> Bps:
        """Return the reward as a share of the amount that stands for the call."""
        return Bps(BPS * (ONE_CALL + self.reward))

    @property
    def scaled_debt(self) -> int:
        """Return what is there before the call."""
        return self.there

    def legal_down(self, repay: int) -> int:
        """Return the amount that stands for the call; 0 for less."""
        return ONE_CALL if repay >= ONE_CALL else 0

    def seize(self, repay: int) -> Seizure:
        """Return the reward, nothing repaid."""
        if repay < ONE_CALL:
            return Seizure(0, 0, 0)
        gas = BARK_GAS if self.way == Way.BARK else REDO_GAS
        return Seizure(0, self.reward, 0, extra_gas=gas)


ClipTerms = TakeTerms | RewardTerms
