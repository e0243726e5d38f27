"""VAI, Venus' stablecoin: what its minters owe counts as debt, a dollar each, and is told by no log.

Source: VAIController.sol (getVAIRepayAmount, accrueVAIInterest), ComptrollerLens.sol
(_calculateAccountPosition) and Liquidator.sol (_checkForceVAILiquidate). A log says whose debt changed;
what it is then is read with that block's state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from keeper.chain.multicall import MULTICALL3, decode_aggregate3, encode_aggregate3
from keeper.chain.words import answered, read, uint
from keeper.types import Call, CallResult, Token
from keeper.units import WAD, Address

SOME = 64
"""Minters read with one head's state."""
LATELY = 32
"""Blocks after a change in which a debt is read with every head."""
LIQUIDATING = 5
"""Venus' number of liquidating among the actions that are paused."""
MARGIN = 10**6
"""By one such part of the index debts on the screen are ahead of the chain's."""
GROWING = 3
"""How many of them tell the index as stored and with interest."""
RULES = 5 + GROWING
"""How many reads tell the controller's rules."""


@dataclass(frozen=True, slots=True)
class Minted:
    """What somebody owes in VAI: all of it as stored, the interest in that, and since which index."""

    amount: int
    past: int
    since: int

    def owed(self, index: int) -> int:
        """Return the debt at an index; interest is simple (VAIController.getVAIRepayAmount)."""
        return self.amount + (index - self.since) * (self.amount - self.past) // WAD


@dataclass(frozen=True, slots=True)
class Unread:
    """A debt that changed in a block and was not read since."""

    block: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """The controller at a head: its index as stored and with interest, and the rate of a block.

    Where `is_first`, Venus' liquidator contract refuses who owes `least` of VAI or more until that is
    liquidated.
    """

    index: int
    accrued: int
    rate: int
    head: int
    is_first: bool
    least: int

    def index_at(self, block: int) -> int:
        """Return the index once interest was added in a block (VAIController.accrueVAIInterest)."""
        return self.accrued + self.rate * max(block - self.head, 0)


@dataclass(slots=True)
class Vai:
    """VAI of one market: its controller, and its rules as last read, None when they were not.

    `shown` is the index that debts on the screen stand at.
    """

    controller: Address
    token: Token
    rules: Rules | None = None
    shown: int = 0


def rule_calls(vai: Vai, comptroller: Address, liquidator: Address) -> list[Call]:
    """Return the reads of the controller's rules, in the order of `take_rules`.

    Nothing tells when interest was last added, so that it is added within the reads themselves: within
    one call of Multicall3's own, which no limit of a request parts. They stand beside it for a chain
    that has Multicall3 elsewhere.
    """
    growing = [
        read(vai.controller, "vaiMintIndex()"),
        read(vai.controller, "accrueVAIInterest()"),
        read(vai.controller, "vaiMintIndex()"),
    ]
    return [
        Call(MULTICALL3, encode_aggregate3(growing)),
        *growing,
        read(vai.controller, "getVAIRepayRatePerBlock()"),
        read(comptroller, "actionPaused(address,uint8)", vai.controller, LIQUIDATING),
        read(liquidator, "forceVAILiquidate()"),
        read(liquidator, "minLiquidatableVAI()"),
    ]


def take_rules(results: Sequence[CallResult], head: int, *, through: bool) -> Rules | None:
    """Return rules by the answers to `rule_calls` at a head, None when one is missing.

    The last two matter where calls go through Venus' liquidator contract only.
    """
    together, apart, last = results[0], results[1 : 1 + GROWING], None if through else -2
    stored, added, accrued = _parts(together) or apart
    rest = results[1 + GROWING : last]
    if not added.ok or not all(map(answered, (stored, accrued, *rest))):
        return None
    rate, paused, *first = (uint(each.data) for each in rest)
    is_first = bool(through and first[0] and not paused)
    least = first[1] if through else 0
    return Rules(uint(stored.data), uint(accrued.data), rate, head, is_first, least)


def _parts(together: CallResult) -> list[CallResult]:
    """Return the answers within one of Multicall3's, none when it is no such answer."""
    try:
        found = decode_aggregate3(together.data) if together.ok else []
    except ValueError:
        return []
    return found if len(found) == GROWING else []


def minter_calls(controller: Address, comptroller: Address, minter: Address) -> list[Call]:
    """Return the reads of one debt, in the order of `take_minter`."""
    return [
        read(comptroller, "mintedVAIs(address)", minter),
        read(controller, "pastVAIInterest(address)", minter),
        read(controller, "getVAIMinterInterestIndex(address)", minter),
    ]


def take_minter(results: Sequence[CallResult]) -> Minted | None:
    """Return a debt by the answers to `minter_calls`, None when one is missing."""
    if not answered(results[0]):
        return None
    amount = uint(results[0].data)
    if not amount:
        return Minted(0, 0, WAD)
    if not all(map(answered, results)):
        return None
    return Minted(amount, uint(results[1].data), uint(results[2].data))
