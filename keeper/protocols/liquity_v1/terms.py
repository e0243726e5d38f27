"""What liquidating a trove pays: one call for the whole of it, which repays nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from keeper.protocols.liquity_v1 import rules
from keeper.protocols.liquity_v1.events import Contracts
from keeper.protocols.liquity_v1.ledger import Whole
from keeper.types import Seizure, Token
from keeper.units import BPS, WAD, Address, Bps

ONE_CALL = 1
"""The least amount stands for the call: a trove is taken whole, at nobody's cost but the pool's."""
EXTRA_GAS = 82_000
"""What each trove of a call takes beyond one of Aave's at worst: with others' spread debts still to take over."""
CALL_GAS = 380_000
"""What the call takes once, whoever it liquidates: at worst the pool pays a part and the rest is spread."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One system: its contracts, the wrapped coin, its own token, and the reserve of each trove.

    Collateral is the native coin; `coin` is what it is wrapped into for a sale, if that is not the
    coin itself (`is_coin`). `reserve` is what the gas pool pays for each trove, in wei of the token;
    `codes` are the prints of the code behind each contract.
    """

    contracts: Contracts
    coin: Token
    debt: Token
    reserve: int
    is_coin: bool = False
    codes: Mapping[Address, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LiquityTerms:
    """One trove at the next block: `whole` is what it holds, `deposits` what the pool can pay.

    `price` is the coin's, in dollars with 18 decimals.

    The repay is `ONE_CALL`, of which nothing is pulled: the caller gets the fixed reserve and the
    200th part of the collateral, and the pool or the other troves take the rest.
    """

    collateral: Token
    debt: Token
    whole: Whole
    owed: int
    reserve: int
    deposits: int
    price: int

    @property
    def maximum(self) -> int:
        """Return the amount that stands for the call."""
        return ONE_CALL

    @property
    def bonus(self) -> Bps:
        """Return all that is paid for the call, as a share of the amount that stands for it."""
        compensation = rules.compensation_down(self.whole.collateral)
        return Bps(BPS * (ONE_CALL + self.reserve + compensation * self.price // WAD))

    @property
    def scaled_debt(self) -> int:
        """Return the debt without what was redistributed, as getTroveDebt says it."""
        return self.owed

    @property
    def resolution(self) -> rules.Resolution:
        """Return where the trove goes, if no other is liquidated before it."""
        whole = self.whole
        return rules.resolve(whole.collateral, whole.principal, whole.interest, self.deposits)

    def legal_down(self, repay: int) -> int:
        """Return the amount that stands for the call; 0 for less."""
        return ONE_CALL if repay >= ONE_CALL else 0

    def seize(self, repay: int) -> Seizure:
        """Return what the caller gets; the debt token it is paid counts as repaid to it."""
        if repay < ONE_CALL:
            return Seizure(0, 0, 0)
        compensation = rules.compensation_down(self.whole.collateral)
        rest = self.whole.collateral - compensation
        return Seizure(-self.reserve, compensation, rest, extra_gas=EXTRA_GAS, shared_gas=CALL_GAS)
