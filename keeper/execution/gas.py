"""Fees and gas limits of one transaction."""

from keeper.types import Fees
from keeper.units import Wei, mul_div_up

GAS_LIMIT_CAP = 16_777_216
"""No transaction may ask for more gas (EIP-7825)."""

FULL_BLOCKS = 6
"""Full blocks in a row a maximum fee outlives; the base fee doubles in six."""

MARGIN_GAS = 60_000
"""Cold storage another transaction of the block may have made us pay for, and accrued interest."""


def fees(
    next_base_fee: Wei, priority: Wei, cap: Wei, full_blocks: int = FULL_BLOCKS
) -> Fees | None:
    """Return fees that outlive `full_blocks` full blocks, or None when the cap is below the next.

    A full block raises the base fee by an eighth, at least by 1 wei (EIP-1559). The cap bounds the maximum fee and,
    when there is little room left under it, the priority fee.
    """
    if next_base_fee > cap:
        return None
    highest = int(next_base_fee)
    for _ in range(full_blocks):
        highest += max(highest // 8, 1)
    maximum = Wei(min(highest + priority, cap))
    return Fees(maximum, Wei(min(priority, maximum - next_base_fee)))


def gas_limit_up(gas_used: int) -> int:
    """Return the gas limit for a simulated gas, at most `GAS_LIMIT_CAP`.

    `gas_used` is what remains after refunds, and those reach a fifth of what was needed before
    (EIP-3529): 5/4 gives it back. Each of two nested calls keeps 1/64 of its gas from the callee
    (EIP-150): 64/63 twice. A further sixteenth and a constant cover state that moved in between.
    """
    before_refunds = mul_div_up(gas_used, 5, 4)
    reserved = mul_div_up(before_refunds, 64 * 64, 63 * 63)
    return min(mul_div_up(reserved, 17, 16) + MARGIN_GAS, GAS_LIMIT_CAP)
