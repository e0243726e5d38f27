"""What a receipt tells of a rollup's charges beside the gas."""

from collections.abc import Mapping
from typing import Any

from keeper.chain.parse import quantity
from keeper.units import Wei


def beside_gas(receipt: Mapping[str, Any]) -> Wei:
    """Return the wei charged beside gas: an OP-stack chain's data fee and operator fee.

    0 elsewhere: Arbitrum's part for its parent chain is in `gasUsed` (`gasUsedForL1` says how much).
    The operator fee is told by its parameters; receipts since Jovian, which scales them anew, carry
    `daFootprintGasScalar` (op-geth: rollup_cost.go, newOperatorCostFunc).
    """
    scalar, constant = _told(receipt, "operatorFeeScalar"), _told(receipt, "operatorFeeConstant")
    scaled = quantity(receipt["gasUsed"]) * scalar
    is_jovian = receipt.get("daFootprintGasScalar") is not None
    slope = scaled * 100 if is_jovian else scaled // 1_000_000
    return Wei(_told(receipt, "l1Fee") + slope + constant)


def _told(receipt: Mapping[str, Any], name: str) -> int:
    return quantity(receipt.get(name) or "0x0")
