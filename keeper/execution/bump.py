"""Fees of a transaction that takes the place of another on its nonce."""

from keeper.execution.gas import fees
from keeper.types import Fees, Plan
from keeper.units import Wei, mul_div_up

BUMP_PERCENT = 110
"""A pool takes a replacement when both fees are at least a tenth higher (geth's `PriceBump`)."""

STEP_PERCENT = 125
"""What a replacement's priority fee aims at: in four steps it is more than doubled."""


def bumped_up(fee: int) -> Wei:
    """Return the least fee that replaces another: a tenth more, rounded up, and at least 1 wei."""
    return Wei(max(mul_div_up(fee, BUMP_PERCENT, 100), fee + 1))


def first_down(cap: Wei) -> Wei:
    """Return the most a first send may offer per gas so that a replacement and a cancel stay under `cap`."""
    # each of the two bumps may round up by a wei
    return Wei(max(cap * 100 * 100 // (BUMP_PERCENT * BUMP_PERCENT) - 2, 0))


def replaced_down(cap: Wei) -> Wei:
    """Return the most a replacement may offer per gas so that a cancel stays under `cap`."""
    return Wei(cap * 100 // BUMP_PERCENT)


def rescue_up(plan: Plan, cancel_gas: int) -> Wei:
    """Return what the wallet holds back beside a plan's own gas, so that its nonce cannot stick.

    The least replacement costs so much more than the plan does, and a cancel after it has to be paid too.
    """
    raised = bumped_up(plan.bid.max_fee)
    step = plan.gas_limit * (raised - plan.bid.max_fee)
    return Wei(step + min(plan.gas_limit, cancel_gas) * bumped_up(raised))


def highest(offered: list[Fees]) -> Fees:
    """Return each fee's highest among what was offered on a nonce: any of it may be what pools hold."""
    return Fees(
        Wei(max(each.max_fee for each in offered)), Wei(max(each.priority_fee for each in offered))
    )


def replacement_fees(held: Fees, next_base_fee: Wei, ceiling: Wei) -> Fees | None:
    """Return fees that replace `held` and outlive full blocks; None when that passes the ceiling.

    Both rise by the rule or more, the maximum never past the ceiling.
    """
    least = Fees(bumped_up(held.max_fee), bumped_up(held.priority_fee))
    if least.max_fee > ceiling or next_base_fee > ceiling:
        return None
    aimed = max(least.priority_fee, mul_div_up(held.priority_fee, STEP_PERCENT, 100))
    wanted = fees(next_base_fee, Wei(aimed), ceiling)
    maximum = max(least.max_fee, wanted.max_fee if wanted is not None else 0)
    # room under the ceiling decides how much of what is aimed at a block would pay
    priority = min(aimed, max(least.priority_fee, maximum - next_base_fee))
    if priority > maximum:
        return None
    return Fees(Wei(maximum), Wei(priority))
