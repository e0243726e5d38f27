"""The status page: what the day brought so far."""

from types import SimpleNamespace
from typing import Any

from keeper.observers.observation import Event
from keeper.observers.status import ChainStatus
from keeper.types import Cancelled, Receipt
from keeper.units import USD, Hash, Usd, Wei
from tests.fake_node import FakeClock
from tests.plans import GWEI, Plans
from tests.unit.test_risk import included, tx_of


def page() -> ChainStatus:
    """Return the status of a chain on which nothing happened yet."""
    book: Any = SimpleNamespace(head=None, stopped={}, markets={})
    sender: Any = SimpleNamespace(balance=None, lanes=[], pending=0, relays={})
    risk: Any = SimpleNamespace(breakers=dict, details=dict)
    return ChainStatus("test", "live", book, sender, risk, FakeClock(), 12, list)


def settle(status: ChainStatus, receipt: Receipt) -> None:
    """Show how a plan ended."""
    status.observe(Event("test", "plan.settled", {"receipt": receipt}))


def test_what_a_cancellation_costs_is_in_the_day_s_net() -> None:
    status, plans = page(), Plans()
    settle(status, included(plans.make(), 40))
    plan = plans.make()
    paid = tx_of(plan)
    settle(status, Cancelled(plan.id, Hash(b"\1" * 32), paid))
    settle(status, Cancelled(plan.id, paid, paid, 102, 21_000, Wei(GWEI), Usd(3 * USD)))
    today = status.as_json()["today"]
    assert today == {"net_usd": 37.0, "included": 1, "reverted": 0, "liquidated": 1}
