"""The sequencer's sentinel, which forbids liquidations while a rollup is down and shortly after."""

from collections.abc import Sequence
from dataclasses import dataclass

from keeper.chain.words import address, read, uint
from keeper.types import Call, CallResult, Reason
from keeper.units import ZERO_ADDRESS, Address


@dataclass(frozen=True, slots=True)
class Sentinel:
    """What one sentinel answered at one head; None is what could not be read.

    `is_down` and `since` are the sequencer's own report, `grace` the seconds after it came back.
    Without them `allowed` decides, which is the sentinel's answer at the head, not at the next
    block.
    """

    contract: Address
    sequencer: Address = ZERO_ADDRESS
    allowed: bool | None = None
    grace: int | None = None
    is_down: bool | None = None
    since: int = 0

    def calls(self) -> list[Call]:
        """Return the reads that renew this."""
        return [
            read(self.contract, "isLiquidationAllowed()"),
            read(self.contract, "getGracePeriod()"),
            read(self.contract, "getSequencerOracle()"),
            read(self.sequencer, "latestRoundData()"),
        ]

    def renewed(self, results: Sequence[CallResult]) -> "Sentinel":
        """Return what the answers to `calls` say."""
        allowed, grace, oracle, answer = (
            result.data if result.ok and len(result.data) >= 32 else None for result in results
        )
        sequencer = ZERO_ADDRESS if oracle is None else address(oracle)
        known = answer is not None and len(answer) >= 160 and sequencer == self.sequencer
        return Sentinel(
            self.contract,
            sequencer,
            None if allowed is None else bool(uint(allowed)),
            None if grace is None else uint(grace),
            bool(uint(answer, 1)) if answer is not None and known else None,
            uint(answer, 2) if answer is not None and known else 0,
        )

    def refusal(self, timestamp: int) -> tuple[Reason, str] | None:
        """Return why nothing may be liquidated, None when it may.

        PriceOracleSentinel._isUpAndGracePeriodPassed, which borrowers under 0.95 do not wait for.
        """
        if self.is_down is None or self.grace is None:
            if self.allowed:
                return None
            known = "forbids liquidations" if self.allowed is not None else "was not read"
            return Reason.STALE_ORACLE, f"the price oracle sentinel {known}"
        if self.is_down:
            return Reason.STALE_ORACLE, "the sequencer is down"
        if timestamp - self.since > self.grace:
            return None
        return Reason.GRACE, f"sequencer grace period until {self.since + self.grace}"
