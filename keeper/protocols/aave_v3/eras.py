"""Every era of Aave v3 as one table: each is the one before it, and what its revision changed.

Arithmetic is in `early` (as it was up to v3.4) and `v36`; what an era picks of it stands here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from keeper.protocols.aave_v3 import early, v36
from keeper.protocols.aave_v3.fixed import (
    HALF_BPS,
    percent_div_down,
    percent_div_half_up,
    percent_div_up,
    percent_mul_half_up,
    percent_mul_up,
    ray_div_down,
    ray_div_up,
)
from keeper.units import Wad

Two = Callable[[int, int], int]
Three = Callable[[int, int, int], int]


@dataclass(frozen=True, slots=True)
class Era:
    """The rules of one minor version.

    Amounts are token units, values base currency. `supply_burn` and `debt_burn` say how many scaled
    units an amount burns, `scaled_supply` and `scaled_debt` which scaled amount has a balance.
    `seizure_rounding` is what is added, in bps of a unit, before a seizure with its bonus is cut to
    whole units. `leftover` is the least value a call in part may leave, 0 for any.
    """

    name: str
    revisions: frozenset[int]
    supply_tokens: frozenset[int]
    debt_tokens: frozenset[int]
    compounded: Two
    supply_balance: Two
    debt_balance: Two
    scaled_supply: Two
    scaled_debt: Two
    supply_burn: Two
    debt_burn: Two
    debt_value: Three
    least_debt: Three
    health: Callable[[int, int, int], Wad]
    repay_cap: Callable[[int, int, int, int, int, int, int], int]
    seizure_rounding: int
    repaid_of: Two
    without_bonus: Two
    fee_of: Two
    leftover: int
    writes_off: bool
    accrues_kept: bool
    has_grace: bool
    has_virtual_balance: bool
    has_bitmaps: bool
    has_deficit: bool
    has_ltv_zero: bool
    has_sentinel: bool
    has_stable_rates: bool
    has_discounts: bool
    counts_unweighted: bool

    def __reduce__(self) -> "tuple[Callable[[str], Era], tuple[str]]":
        """Travel to a strategy's process as a name."""
        return named, (self.name,)

    @property
    def averages_threshold(self) -> bool:
        """Tell whether health goes through the average threshold, cut to whole bps."""
        return self.health is early.health_factor

    @property
    def rounds_balances(self) -> bool:
        """Tell whether balances are rounded to the nearest unit, not in the protocol's favour."""
        return self.supply_balance is early.balance_half_up


V30 = Era(
    name="3.0",
    revisions=frozenset({1, 2, 3}),
    supply_tokens=frozenset({1, 2, 3}),
    debt_tokens=frozenset({1, 2, 3}),
    compounded=early.compounded_interest,
    supply_balance=early.balance_half_up,
    debt_balance=early.balance_half_up,
    scaled_supply=early.scaled_half_up,
    scaled_debt=early.scaled_half_up,
    supply_burn=early.scaled_half_up,
    debt_burn=early.scaled_half_up,
    debt_value=early.debt_value_down,
    least_debt=early.least_debt_up,
    health=early.health_factor,
    repay_cap=early.repay_cap,
    seizure_rounding=HALF_BPS,
    repaid_of=percent_div_half_up,
    without_bonus=percent_div_half_up,
    fee_of=percent_mul_half_up,
    leftover=0,
    writes_off=False,
    accrues_kept=False,
    has_grace=False,
    has_virtual_balance=False,
    has_bitmaps=False,
    has_deficit=False,
    has_ltv_zero=False,
    has_sentinel=True,
    has_stable_rates=True,
    has_discounts=True,
    counts_unweighted=False,
)
V31 = replace(V30, name="3.1", revisions=frozenset({4}), has_grace=True, has_virtual_balance=True)
V32 = replace(V31, name="3.2", revisions=frozenset({5}), has_bitmaps=True, has_stable_rates=False)
V33 = replace(
    V32,
    name="3.3",
    revisions=frozenset({6, 7}),
    repay_cap=v36.repay_cap,
    leftover=v36.LEFTOVER_BASE,
    writes_off=True,
    has_deficit=True,
)
V34 = replace(
    V33,
    name="3.4",
    revisions=frozenset({8}),
    debt_tokens=frozenset({1, 2, 3, 4}),
    compounded=v36.compounded_interest,
    has_discounts=False,
)
V35 = replace(
    V34,
    name="3.5",
    revisions=frozenset({9}),
    supply_tokens=frozenset({4}),
    debt_tokens=frozenset({4, 5}),
    accrues_kept=True,
    supply_balance=v36.supply_balance_down,
    debt_balance=v36.debt_balance_up,
    scaled_supply=v36.scaled_supply,
    scaled_debt=v36.scaled_debt,
    supply_burn=ray_div_up,
    debt_burn=ray_div_down,
    debt_value=v36.debt_value_up,
    least_debt=v36.least_debt_above,
    health=v36.health_factor,
    repaid_of=percent_div_up,
)
V36 = replace(
    V35,
    name="3.6",
    revisions=frozenset({v36.POOL_REVISION}),
    supply_tokens=v36.SUPPLY_TOKEN_REVISIONS,
    debt_tokens=v36.DEBT_TOKEN_REVISIONS,
    has_ltv_zero=True,
    counts_unweighted=True,
)
V37 = replace(
    V36,
    name="3.7",
    revisions=frozenset({11}),
    seizure_rounding=0,
    without_bonus=percent_div_down,
    fee_of=percent_mul_up,
    has_sentinel=False,
)
ERAS: Mapping[str, Era] = {era.name: era for era in (V30, V31, V32, V33, V34, V35, V36, V37)}
"""By the name a configuration gives."""


def named(name: str) -> Era:
    """Return an era by its name; raise `KeyError` for one that is none."""
    return ERAS[name]


def era_of(revision: int) -> Era | None:
    """Return the era of Aave's own pool revision, None for one whose rules are not known."""
    return next((era for era in ERAS.values() if revision in era.revisions), None)
