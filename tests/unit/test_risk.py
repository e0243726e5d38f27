"""Hard limits and breakers."""

from dataclasses import replace
from pathlib import Path

import pytest

from keeper.errors import ConfigError
from keeper.journal.read import Spent
from keeper.risk import DAY, Limits, Risk, worst_gas_cost
from keeper.types import Dropped, Included, Plan, Reason, Reverted
from keeper.units import USD, Hash, Usd, Wei
from tests.fake_node import FakeClock
from tests.plans import GWEI, Plans

TX = Hash(bytes(32))


def limits(tmp_path: Path, **changes: object) -> Limits:
    """Return limits a plan from `Plans` keeps."""
    base = Limits(
        gas_per_transaction=Wei(2_000_000 * GWEI),
        gas_per_day=Wei(4_000_000 * GWEI),
        minimum_profit=Usd(5 * USD),
        largest_repay=Usd(10_000 * USD),
        kill_file=tmp_path / "KILL",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def reverted(plan: Plan, gas: int = 100_000) -> Reverted:
    """Return a receipt that cost gas at one gwei."""
    return Reverted(plan.id, TX, 101, gas, Wei(GWEI), "no")


@pytest.fixture
def plans() -> Plans:
    """Return a source of plans; each costs at most 1.8 million gwei."""
    return Plans()


def test_a_plan_within_every_limit_is_admitted(tmp_path: Path, plans: Plans) -> None:
    risk = Risk("test", limits(tmp_path), FakeClock())
    assert risk.admit(plans.make()) is None
    assert not any(risk.breakers().values())
    assert set(risk.breakers()) == {"kill_file", "reverts", "gas_day", "gas_transaction"}


def test_the_kill_file_stops_everything_until_it_is_gone(tmp_path: Path, plans: Plans) -> None:
    risk = Risk("test", limits(tmp_path), FakeClock())
    (tmp_path / "KILL").touch()
    skip = risk.admit(plans.make())
    assert skip is not None
    assert skip.reason is Reason.BREAKER
    assert skip.detail.startswith("kill_file")
    assert risk.breakers()["kill_file"]
    (tmp_path / "KILL").unlink()
    assert risk.admit(plans.make()) is None
    assert not risk.breakers()["kill_file"]


def test_an_unreadable_kill_file_counts_as_thrown(tmp_path: Path, plans: Plans) -> None:
    (tmp_path / "file").touch()
    name = "x" * 300
    risk = Risk("test", limits(tmp_path, kill_file=tmp_path / name), FakeClock())
    skip = risk.admit(plans.make())
    assert skip is not None
    assert skip.reason is Reason.BREAKER


def test_one_transaction_may_not_cost_more(tmp_path: Path, plans: Plans) -> None:
    plan = plans.make()
    dear = Risk(
        "test", limits(tmp_path, gas_per_transaction=Wei(worst_gas_cost(plan) - 1)), FakeClock()
    )
    skip = dear.admit(plan)
    assert skip is not None
    assert skip.detail.startswith("gas_transaction")
    assert dear.breakers()["gas_transaction"]
    exact = Risk("test", limits(tmp_path, gas_per_transaction=worst_gas_cost(plan)), FakeClock())
    assert exact.admit(plan) is None


def test_gas_in_flight_counts_at_its_worst_until_the_receipt(tmp_path: Path, plans: Plans) -> None:
    risk = Risk("test", limits(tmp_path), FakeClock())
    first, second, third = plans.make(), plans.make(), plans.make()
    assert risk.admit(first) is None
    assert risk.admit(second) is None
    skip = risk.admit(third)
    assert skip is not None
    assert skip.detail.startswith("gas_day")
    assert risk.breakers()["gas_day"]
    risk.settle(Included(first.id, TX, 101, TX, 0, 300_000, Wei(GWEI)))
    assert risk.admit(third) is None
    assert not risk.breakers()["gas_day"]


def test_what_was_never_sent_costs_nothing(tmp_path: Path, plans: Plans) -> None:
    risk = Risk("test", limits(tmp_path), FakeClock())
    for _ in range(20):
        plan = plans.make()
        assert risk.admit(plan) is None
        risk.settle(Dropped(plan.id, None, "refused"))


def test_a_day_of_gas_is_forgotten_a_day_later(tmp_path: Path, plans: Plans) -> None:
    clock = FakeClock()
    risk = Risk("test", limits(tmp_path, gas_per_day=Wei(2_000_000 * GWEI)), clock)
    plan = plans.make()
    risk.settle(reverted(plan, gas=1_000_000))
    assert risk.admit(plan) is not None
    clock.now += DAY - 1
    assert risk.admit(plan) is not None
    clock.now += 1
    assert risk.admit(plan) is None


def test_reverts_open_the_breaker_until_their_window_passed(tmp_path: Path, plans: Plans) -> None:
    clock = FakeClock()
    risk = Risk("test", limits(tmp_path), clock)
    for _ in range(2):
        risk.settle(reverted(plans.make()))
        assert not risk.breakers()["reverts"]
    clock.now += 60
    risk.settle(reverted(plans.make()))
    skip = risk.admit(plans.make())
    assert skip is not None
    assert skip.detail.startswith("reverts: 3")
    clock.now += 3_600 - 60
    assert risk.admit(plans.make()) is None


def test_unprofitable_and_oversized_plans_are_refused(tmp_path: Path, plans: Plans) -> None:
    risk = Risk("test", limits(tmp_path), FakeClock())
    poor = risk.admit(replace(plans.make(), net_usd=Usd(5 * USD - 1)))
    large = risk.admit(replace(plans.make(), repaid_usd=Usd(10_000 * USD + 1)))
    assert poor is not None
    assert poor.reason is Reason.UNPROFITABLE
    assert large is not None
    assert large.reason is Reason.CAPITAL


def test_restart_remembers_gas_reverts_and_what_is_in_flight(tmp_path: Path, plans: Plans) -> None:
    clock = FakeClock()
    risk = Risk("test", limits(tmp_path, gas_per_day=Wei(5_000_000 * GWEI)), clock)
    spent = [
        Spent("test", clock.now - 50, Wei(1_000_000 * GWEI), reverted=True),
        Spent("test", clock.now - 40, Wei(1_000_000 * GWEI), reverted=True),
        Spent("other", clock.now - 30, Wei(10**24), reverted=True),
    ]
    risk.restore(spent, [plans.make()])
    skip = risk.admit(plans.make())
    assert skip is not None
    assert skip.detail.startswith("gas_day: 3800000000000000 ")
    risk.settle(reverted(plans.make()))
    assert risk.breakers()["reverts"]


@pytest.mark.parametrize(
    "field", ["gas_per_transaction", "gas_per_day", "minimum_profit", "largest_repay", "reverts"]
)
def test_no_limit_can_be_turned_off(tmp_path: Path, field: str) -> None:
    with pytest.raises(ConfigError, match="cannot be turned off"):
        limits(tmp_path, **{field: 0})
