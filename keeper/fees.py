"""What a place in a block costs: inclusion models, fee history, rollups' data fees, bids so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from keeper.units import BPS, Bps, Wei, mul_div_up


class Inclusion(StrEnum):
    """How a chain chooses and charges transactions."""

    AUCTION = "auction"
    FIRST_COME = "first-come"
    OP_STACK = "op-stack"
    ARBITRUM = "arbitrum"

    @property
    def orders_by_fee(self) -> bool:
        """Whether paying more moves a transaction forward; else tips and replacements are wasted."""
        return self in {Inclusion.AUCTION, Inclusion.OP_STACK}


@dataclass(frozen=True, slots=True)
class FeeHistory:
    """Priority fees of recent blocks (`eth_feeHistory`), oldest first.

    `rewards` has one row per block: the priority fee at each of `percentiles` of the gas used. Rows
    of empty blocks are left out, since nobody paid anything there.
    """

    newest: int
    percentiles: tuple[int, ...]
    rewards: tuple[tuple[Wei, ...], ...]

    def priority_fee(self, percentile: int) -> Wei | None:
        """Return the median over blocks at a percentile, or the next one held above it.

        None without a block, or above the highest percentile held.
        """
        column = next((i for i, held in enumerate(self.percentiles) if held >= percentile), None)
        if column is None or not self.rewards:
            return None
        found = sorted(row[column] for row in self.rewards)
        return found[len(found) // 2]


class DataFee(Protocol):
    """What a rollup charges for posting a transaction to its parent chain."""

    def wei_up(self, size: int, gas: int) -> Wei:
        """Return at least the wei charged beside the gas for an unsigned transaction of `size` bytes.

        `gas` is what it uses.
        """
        ...

    def gas_up(self, size: int, base_fee: Wei) -> int:
        """Return the gas its limit has to hold for that, 0 where the fee is not taken as gas."""
        ...


@dataclass(frozen=True, slots=True)
class OpStackFee:
    """The L1 data fee of an OP-stack chain since Fjord, and its operator fee since Isthmus.

    Source: GasPriceOracle.sol (getL1FeeUpperBound, _fjordL1Cost, getOperatorFee). The operator fee
    is a constant and a slope, in wei per `SLOPE_GAS` gas, whatever fork scales it.
    """

    l1_base_fee: Wei
    base_fee_scalar: int
    blob_base_fee: Wei
    blob_base_fee_scalar: int
    operator_constant: Wei = Wei(0)
    operator_slope: Wei = Wei(0)

    SLOPE_GAS = 1_000_000_000

    def upper_bound(self, size: int) -> Wei:
        """Return `getL1FeeUpperBound(size)` to the wei; 68 bytes stand for the signature."""
        signed = size + 68
        compressed = signed + signed // 255 + 16
        estimated = max(-42_585_600 + 836_500 * compressed, 100 * 10**6)
        scaled = (
            self.base_fee_scalar * 16 * self.l1_base_fee
            + self.blob_base_fee_scalar * self.blob_base_fee
        )
        return Wei(estimated * scaled // 10**12)

    def wei_up(self, size: int, gas: int) -> Wei:
        """Return the upper bound of the data fee, and the operator fee."""
        operator = self.operator_constant + mul_div_up(gas, self.operator_slope, self.SLOPE_GAS)
        return Wei(self.upper_bound(size) + operator)

    def gas_up(self, size: int, base_fee: Wei) -> int:  # noqa: ARG002
        """Return 0: the fee is taken from the balance."""
        return 0


@dataclass(frozen=True, slots=True)
class ArbitrumFee:
    """The L1 component of Arbitrum gas, from `ArbGasInfo.getPricesInWei`.

    It is charged as gas for what is left of the bytes after compression. Ours are packed, so nothing
    is taken off, and the padding of the node's own estimate is added: l1pricing.go (256 units and
    1 %), tx_processor.go (GasEstimationL1PricePadding: 10 % more, at 7/8 of the base fee and no less
    than the minimum).
    """

    wei_per_byte: Wei
    minimum_base_fee: Wei

    _ENVELOPE = 68 + 16

    def wei_up(self, size: int, gas: int) -> Wei:  # noqa: ARG002
        """Return the price of the signed bytes uncompressed, padded as an estimate is."""
        return Wei(mul_div_up(self.wei_per_byte * (size + self._ENVELOPE), 101, 100))

    def gas_up(self, size: int, base_fee: Wei) -> int:
        """Return the gas that pays for them, a tenth more, at a base fee an eighth lower."""
        price = max(base_fee * 7 // 8, self.minimum_base_fee, 1)
        return mul_div_up(self.wei_up(size, 0), 11, 10 * price)


TOGETHER = "+"
"""Joins the names of relays that held one transaction at once."""
UNKNOWN_RELAY = "?"


@dataclass(frozen=True, slots=True)
class BidOutcome:
    """One bid that was sent: its share of the value, by which way, and whether it was first.

    An empty `relay` is the public pool. Of several relays that held it at once nobody can tell which
    had it included: they stand together, joined by `+` in the order of the alphabet, as one way of
    their own. `?` is a relay of which a restart left no record.
    """

    share: Bps
    won: bool
    relay: str = ""


@dataclass(frozen=True, slots=True)
class BidRecord:
    """How own bids ended, oldest first; a lost one went to a rival, as far as can be told.

    `share` is what was paid for inclusion (builder's tip and priority fees) of what the liquidation
    would have brought without paying any. `way` is the one the next bid takes, named as outcomes name
    theirs: all configured relays together, the pool when empty.
    """

    outcomes: tuple[BidOutcome, ...] = ()
    way: str = ""

    def of(self, relay: str) -> "BidRecord":
        """Return the record of one way: a relay alone, several joined by `+`, the pool when empty."""
        return BidRecord(tuple(each for each in self.outcomes if each.relay == relay), self.way)

    def held_by(self, relay: str) -> "BidRecord":
        """Return the record of all a relay held, alone or beside others."""
        return BidRecord(
            tuple(each for each in self.outcomes if relay in each.relay.split(TOGETHER)), self.way
        )

    def wins(self, low: int = 0, high: int = BPS) -> int:
        """Return how many bids with a share in [low, high] were first."""
        return sum(each.won for each in self.outcomes if low <= each.share <= high)

    def losses(self, low: int = 0, high: int = BPS) -> int:
        """Return how many bids with a share in [low, high] were not."""
        return sum(not each.won for each in self.outcomes if low <= each.share <= high)


def share_of(paid: int, value: int) -> Bps:
    """Return a payment as a share of a value, at most all of it; all of nothing."""
    if value <= 0:
        return Bps(BPS)
    return Bps(min(max(paid, 0) * BPS // value, BPS))


def parse_rewards(
    percentiles: Sequence[int], rewards: Sequence[Sequence[int]], full: Sequence[bool]
) -> tuple[tuple[Wei, ...], ...]:
    """Return the rows of blocks that hold transactions; raise ValueError for another shape."""
    if len(rewards) != len(full) or any(len(row) != len(percentiles) for row in rewards):
        raise ValueError("as many rows as blocks and columns as percentiles were expected")
    return tuple(
        tuple(Wei(fee) for fee in row) for row, held in zip(rewards, full, strict=True) if held
    )
