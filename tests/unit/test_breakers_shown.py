"""Every breaker trips on its scenario, and is seen in metrics, on the status page and in the log."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.app.breakers import BreakerWatch
from keeper.journal.read import JournalReader
from keeper.journal.sqlite import SqliteJournal
from keeper.metrics import BREAKERS, ChainLabels, Metrics
from keeper.observers.status import ChainStatus
from keeper.risk import Risk
from keeper.types import Plan, Reason, Reverted
from keeper.units import USD, Bps, Usd, Wei
from tests.fake_node import FakeClock
from tests.plans import GWEI, USDC, WETH, Plans
from tests.unit.test_feeds import Pool, feeds, priced, selling
from tests.unit.test_risk import included, limits, tx_of

LIMITS: dict[str, dict[str, object]] = {
    "estimate": {"estimate_band": Bps(5_000), "estimate_misses": 1},
    "gas_day": {"gas_per_day": Wei(1_000_000 * GWEI)},
    "gas_hour": {"gas_per_hour": Wei(1_000_000 * GWEI)},
    "gas_transaction": {"gas_per_transaction": Wei(1)},
    "loss": {"loss_per_day": Usd(100 * USD)},
    "repay_day": {"repay_per_day": Usd(1)},
    "repay_hour": {"repay_per_hour": Usd(1)},
    "revert_rate": {"revert_rate": Bps(4_999), "revert_rate_of": 2, "reverts": 9},
    "reverts": {"reverts": 1},
    "stale_head": {"stale_seconds": 36.0},
}


@dataclass
class Shown:
    """A chain's breakers and all that shows them."""

    home: Path
    changes: dict[str, object]
    plans: Plans = field(default_factory=Plans)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.journal = SqliteJournal(self.home / "journal.sqlite", self.clock, 90, lambda _: None)
        self.journal.open()
        labels = ChainLabels(block_time=12, protocols=["aave-v3"])
        self.metrics = Metrics(
            version="1", commit="", mode="live", chains={"test": labels}, strategies=[]
        )
        self.watch = BreakerWatch("test", self.journal, self.metrics)
        self.head = head = replace(self.plans.make().head, timestamp=int(self.clock.now))
        book: Any = SimpleNamespace(head=head, stopped={}, markets={})
        self.risk = Risk(
            "test",
            limits(self.home, **self.changes),
            self.clock,
            seen=lambda: head,
            tell=self.watch.tell,
            feeds=feeds(Pool(WETH, USDC)),
        )
        sender: Any = SimpleNamespace(balance=None, lanes=[], pending=0, relays={})
        self.page = ChainStatus(
            "test", "live", book, sender, self.risk, self.clock, 12, list, phase="live"
        )

    def plan(self) -> Plan:
        """Return a plan of the newest head, worth sending."""
        return priced(replace(self.plans.make(), head=self.head))

    def reverted(self) -> Reverted:
        """Return the receipt of a plan that failed."""
        plan = self.plans.make()
        return Reverted(plan.id, tx_of(plan), 101, 100_000, Wei(GWEI), "x", Usd(USD))


def miss(shown: Shown) -> None:
    """Bring far less than was estimated."""
    plan = shown.plan()
    assert shown.risk.admit(plan) is None
    shown.risk.settle(included(plan, 1))


def deviate(shown: Shown) -> None:
    """Sell profit by a feed that is off."""
    shown.risk._feeds = feeds(Pool(WETH, USDC, 8_000))
    assert shown.risk.admit(priced(selling(shown.plan()))) is not None


def refuse(shown: Shown) -> None:
    """Ask for more than is left."""
    refusal = shown.risk.admit(shown.plan()) or shown.risk.admit(shown.plan())
    assert refusal is not None


def lose(shown: Shown) -> None:
    """Book a loss."""
    shown.risk.settle(included(shown.plan(), -101))


def age(shown: Shown) -> None:
    """Let no block come for longer than three block times."""
    shown.clock.now += 37


def fail_twice(shown: Shown) -> None:
    """Have two of two fail."""
    for _ in range(2):
        shown.risk.settle(shown.reverted())


SCENARIOS: dict[str, Callable[[Shown], object]] = {
    "deviation": deviate,
    "estimate": miss,
    "gas_day": refuse,
    "gas_hour": refuse,
    "gas_transaction": refuse,
    "kill_file": lambda shown: (shown.home / "KILL").touch(),
    "loss": lose,
    "operator_pause": lambda shown: shown.risk.pause("keeper pause"),
    "repay_day": refuse,
    "repay_hour": refuse,
    "revert_rate": fail_twice,
    "reverts": lambda shown: shown.risk.settle(shown.reverted()),
    "signer": lambda shown: shown.risk.trip("signer", "it signed something else"),
    "stale_head": age,
}


@pytest.fixture
async def shown(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shown]:
    """Return a chain with the limits of one breaker."""
    made = Shown(tmp_path, LIMITS.get(request.param, {}))
    yield made
    await made.watch.flush()
    made.journal.close()


def test_every_breaker_has_a_scenario() -> None:
    assert set(SCENARIOS) == set(BREAKERS)


@pytest.mark.parametrize(("shown", "name"), [(name, name) for name in BREAKERS], indirect=["shown"])
async def test_a_breaker_that_trips_is_seen_everywhere(shown: Shown, name: str) -> None:
    labels = {"chain": "test", "breaker": name}

    def gauge() -> float | None:
        return shown.metrics.registry.get_sample_value("keeper_breaker_open", labels)

    assert shown.page.as_json()["breakers"] == []
    assert gauge() == 0
    with capture_logs() as logs:
        SCENARIOS[name](shown)
        page = shown.page.as_json()
    assert page["breakers"] == [name]
    assert page["open_breakers"][name]
    assert page["state"] == ("warn" if name == "deviation" else "fail")
    assert gauge() == 1
    (line,) = [entry for entry in logs if entry["event"] == "breaker.opened"]
    assert (line["breaker"], line["log_level"], line["chain"]) == (name, "error", "test")
    assert line["detail"]
    await shown.watch.flush()
    (change,) = JournalReader(shown.home / "journal.sqlite").breakers()
    assert (change.name, change.is_open) == (name, True)
    refusal = shown.risk.admit(selling(shown.plan()) if name == "deviation" else shown.plan())
    assert refusal is not None
    assert refusal.reason is Reason.BREAKER
    assert refusal.detail.startswith(f"{name}: ")
