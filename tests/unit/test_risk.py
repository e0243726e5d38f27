"""Hard limits and breakers."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from keeper.errors import ConfigError
from keeper.journal.breakers import BreakerChange
from keeper.journal.read import JournalReader, Spent
from keeper.metrics import BREAKERS
from keeper.risk import DAY, HOUR, Limits, Lists, Risk
from keeper.risk.lists import find_tokens
from keeper.types import (
    OUTRUN,
    Cancelled,
    Conversion,
    Dropped,
    Holding,
    Included,
    ItemOutcome,
    Plan,
    Reason,
    Reverted,
    Signed,
    Token,
)
from keeper.units import USD, Hash, Usd, Wei
from tests.fake_node import FakeClock
from tests.forked import run_script
from tests.plans import GWEI, USDC, WETH, Plans, address

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


def signed(plan: Plan, *, cancels: bool = False) -> Signed:
    """Return a transaction of a plan."""
    return Signed(plan, address("operator"), 0, b"", TX, cancels)


@pytest.fixture
def plans() -> Plans:
    """Return a source of plans; each costs at most 1.8 million gwei."""
    return Plans()


def test_a_plan_within_every_limit_is_admitted(tmp_path: Path, plans: Plans) -> None:
    risk = Risk("test", limits(tmp_path), FakeClock())
    assert risk.admit(plans.make()) is None
    assert not any(risk.breakers().values())


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
    dear = Risk("test", limits(tmp_path, gas_per_transaction=Wei(plan.worst_cost - 1)), FakeClock())
    skip = dear.admit(plan)
    assert skip is not None
    assert skip.detail.startswith("gas_transaction")
    assert dear.breakers()["gas_transaction"]
    exact = Risk("test", limits(tmp_path, gas_per_transaction=plan.worst_cost), FakeClock())
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
    clock.now -= DAY
    assert risk.admit(plan) is not None, "a clock that jumped ahead and came back wipes nothing"


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


def test_one_position_or_faster_rivals_do_not_open_the_breaker(
    tmp_path: Path, plans: Plans
) -> None:
    held = limits(tmp_path, gas_per_day=Wei(10**30), gas_per_transaction=Wei(10**30))
    risk, clock = Risk("test", held, FakeClock()), FakeClock()

    def fail(*borrowers: str, reason: str = "no") -> Spent:
        plan = plans.make(*map(address, borrowers))
        assert risk.admit(plan) is None
        risk.settle(replace(reverted(plan), reason=reason))
        estimated = tuple((quote.key, quote.gross_usd) for quote in plan.quotes)
        taken = reason == OUTRUN
        return Spent("test", clock.now, Wei(1), True, plan.id, estimated=estimated, outrun=taken)

    poisoned = [fail("poisoned"), fail("poisoned"), fail("poisoned", "one")]
    taken = [fail(name, reason=OUTRUN) for name in ("two", "three", "four")]
    assert not risk.breakers()["reverts"]
    again = Risk("test", held, clock)
    again.restore([*poisoned, *taken], [])
    assert not again.breakers()["reverts"]
    others = [fail("two"), fail("three")]
    assert risk.breakers()["reverts"]
    again.restore([*poisoned, *taken, *others], [])
    assert again.breakers()["reverts"]


def test_sales_of_profit_that_revert_stop_no_liquidation(tmp_path: Path, plans: Plans) -> None:
    risk = Risk("test", limits(tmp_path, gas_per_day=Wei(10**24)), FakeClock())
    for _ in range(3):
        sale = replace(
            plans.make(),
            quotes=(),
            sweep=Holding(WETH, 10**18),
            conversion=Conversion(USDC, 1, 1),
        )
        assert risk.admit(sale) is None
        risk.settle(reverted(sale))
    assert not risk.breakers()["reverts"]
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
    risk.restore(spent, [signed(plans.make())])
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


def test_the_metrics_know_every_breaker(tmp_path: Path) -> None:
    assert set(BREAKERS) == set(Risk("test", limits(tmp_path), FakeClock()).breakers())


def included(plan: Plan, net: int, gas: int = 100_000) -> Included:
    """Return a receipt of a plan whose every item went through, with its net in dollars."""
    items = tuple(ItemOutcome.of(quote, ok=True, gain=1) for quote in plan.quotes)
    return Included(
        plan.id, tx_of(plan), 101, TX, 0, gas, Wei(GWEI), items=items, net_usd=Usd(net * USD)
    )


def tx_of(plan: Plan) -> Hash:
    """Return a hash of a plan's own."""
    return Hash(plan.id.encode().ljust(32, b"\0")[:32])


class Told(list[BreakerChange]):
    """Every change a breaker told of."""

    def names(self) -> list[tuple[str, bool]]:
        """Return which breaker opened or closed."""
        return [(change.name, change.is_open) for change in self]


def stopped(risk: Risk, plan: Plan) -> str:
    """Return the name of the breaker that stops a plan."""
    skip = risk.admit(plan)
    assert skip is not None
    assert skip.reason is Reason.BREAKER
    return skip.detail.partition(":")[0]


def test_an_hour_of_gas_has_a_limit_of_its_own(tmp_path: Path, plans: Plans) -> None:
    clock, told = FakeClock(), Told()
    held = limits(tmp_path, gas_per_hour=Wei(2_000_000 * GWEI))
    risk = Risk("test", held, clock, tell=told.append)
    risk.settle(reverted(plans.make(), gas=300_000))
    assert stopped(risk, plans.make()) == "gas_hour"
    assert risk.breakers()["gas_hour"]
    assert told.names() == [("gas_hour", True)]
    clock.now += HOUR
    assert risk.admit(plans.make()) is None
    assert not risk.breakers()["gas_hour"]
    assert told.names() == [("gas_hour", True), ("gas_hour", False)]


@pytest.mark.parametrize(("window", "seconds"), [("repay_per_hour", HOUR), ("repay_per_day", DAY)])
def test_what_is_repaid_has_limits(
    tmp_path: Path, plans: Plans, window: str, seconds: float
) -> None:
    clock = FakeClock()
    plan, more = plans.make(), plans.make()
    held = limits(tmp_path, gas_per_day=Wei(10**30), **{window: Usd(plan.repaid_usd * 2 - 1)})
    risk = Risk("test", held, clock)
    assert risk.admit(plan) is None
    name = window.replace("_per_", "_")
    assert stopped(risk, more) == name
    assert risk.breakers()[name]
    risk.settle(included(plan, 10))
    assert stopped(risk, more) == name
    clock.now += seconds
    assert risk.admit(more) is None
    assert not risk.breakers()[name]


def test_losses_of_a_day_open_a_breaker_until_the_operator_closes_it(
    tmp_path: Path, plans: Plans
) -> None:
    clock, told = FakeClock(), Told()
    held = limits(tmp_path, loss_per_day=Usd(100 * USD))
    risk = Risk("test", held, clock, tell=told.append)
    risk.settle(included(plans.make(), -99))
    assert risk.admit(plans.make()) is None
    risk.settle(included(plans.make(), 20))
    risk.settle(included(plans.make(), -21))
    assert stopped(risk, plans.make()) == "loss"
    assert risk.details()["loss"] == "100.00 USD lost, limit 100.00 USD"
    clock.now += 10 * DAY
    assert stopped(risk, plans.make()) == "loss"
    assert risk.resume("operator") == ["loss"]
    risk.settle(included(plans.make(), -99))
    assert risk.admit(plans.make()) is None
    assert told.names() == [("loss", True), ("loss", False)]
    assert [change.cause for change in told] == ["limit", "operator"]


def test_a_resumed_loss_is_forgiven_and_counted_anew(tmp_path: Path, plans: Plans) -> None:
    clock = FakeClock()
    risk = Risk("test", limits(tmp_path, loss_per_day=Usd(100 * USD)), clock)
    risk.settle(included(plans.make(), -150))
    risk.resume("operator")
    clock.now += 1
    risk.settle(included(plans.make(), -60))
    assert risk.admit(plans.make()) is None
    risk.settle(included(plans.make(), -60))
    assert stopped(risk, plans.make()) == "loss"


def test_a_measured_breaker_closes_by_time_when_that_is_configured(
    tmp_path: Path, plans: Plans
) -> None:
    clock, told = FakeClock(), Told()
    held = limits(tmp_path, loss_per_day=Usd(100 * USD), reset_seconds=600.0)
    risk = Risk("test", held, clock, tell=told.append)
    risk.settle(included(plans.make(), -100))
    risk.pause("operator")
    clock.now += 599
    assert risk.breakers()["loss"]
    clock.now += 1
    assert not risk.breakers()["loss"]
    assert [change.cause for change in told] == ["limit", "operator", "time"]
    assert stopped(risk, plans.make()) == "operator_pause"


def test_too_many_reverts_of_the_last_open_a_breaker(tmp_path: Path, plans: Plans) -> None:
    clock = FakeClock()
    held = limits(tmp_path, reverts=100, revert_rate=5_000, revert_rate_of=4)
    risk = Risk("test", replace(held, gas_per_day=Wei(10**30)), clock)
    for outcome in (reverted, reverted, None, None):
        plan = plans.make()
        risk.settle(included(plan, 10) if outcome is None else outcome(plan))
        clock.now += 60
    assert risk.admit(plans.make()) is None
    risk.settle(reverted(plans.make()))
    risk.settle(reverted(plans.make()))
    assert not risk.breakers()["revert_rate"]
    risk.settle(reverted(plans.make()))
    assert stopped(risk, plans.make()) == "revert_rate"
    assert risk.details()["revert_rate"] == "3 of the last 4 reverted"


def test_plans_that_keep_falling_short_open_a_breaker(tmp_path: Path, plans: Plans) -> None:
    clock = FakeClock()
    held = limits(tmp_path, estimate_band=5_000, estimate_misses=2)
    risk = Risk("test", replace(held, gas_per_day=Wei(10**30)), clock)

    def settle(percent: int) -> None:
        plan = replace(plans.make(), net_usd=Usd(100 * USD))
        assert risk.admit(plan) is None
        risk.settle(included(plan, percent))

    for percent in (49, 50, 49):
        settle(percent)
        assert not risk.breakers()["estimate"]
    settle(30)
    assert stopped(risk, plans.make()) == "estimate"
    risk.resume("operator")
    clock.now += 1
    settle(10)
    assert not risk.breakers()["estimate"]


def test_an_item_lost_to_a_rival_is_no_wrong_estimate(tmp_path: Path, plans: Plans) -> None:
    held = limits(tmp_path, estimate_band=1_000, estimate_misses=1, gas_per_transaction=Wei(10**30))
    risk = Risk("test", replace(held, gas_per_day=Wei(10**30)), FakeClock())
    plan = replace(plans.make(address("first"), address("second")), net_usd=Usd(100 * USD))
    assert risk.admit(plan) is None
    whole = included(plan, 48)
    lost = (whole.items[0], replace(whole.items[1], ok=False))
    risk.settle(replace(whole, items=lost))
    assert not risk.breakers()["estimate"]


def test_a_stale_head_stops_sending_until_a_fresh_one(tmp_path: Path, plans: Plans) -> None:
    clock, told = FakeClock(), Told()
    old = replace(plans.make().head, timestamp=int(clock.now) - 60)
    heads = [old]
    risk = Risk(
        "test",
        limits(tmp_path, stale_seconds=60.0),
        clock,
        seen=lambda: heads[0],
        tell=told.append,
    )
    assert risk.admit(replace(plans.make(), head=old)) is None
    clock.now += 1
    assert stopped(risk, replace(plans.make(), head=old)) == "stale_head"
    assert risk.breakers()["stale_head"]
    heads[0] = replace(old, timestamp=int(clock.now))
    assert not risk.breakers()["stale_head"]
    assert told.names() == [("stale_head", True), ("stale_head", False)]


def test_a_pause_survives_and_only_a_resume_ends_it(tmp_path: Path, plans: Plans) -> None:
    clock, told = FakeClock(), Told()
    risk = Risk("test", limits(tmp_path), clock, tell=told.append)
    risk.pause("operator")
    risk.pause("SIGUSR1")
    risk.trip("signer", "it signed something else")
    assert told.names() == [("operator_pause", True), ("signer", True)]
    clock.now += 10 * DAY
    again = Risk("test", limits(tmp_path, reset_seconds=1.0), clock)
    again.restore([], [], told)
    assert {name for name, is_open in again.breakers().items() if is_open} == {
        "operator_pause",
        "signer",
    }
    assert stopped(again, plans.make()) == "operator_pause"
    assert again.resume("operator") == ["operator_pause", "signer"]
    assert again.admit(plans.make()) is None
    other = Risk("other", limits(tmp_path), clock)
    other.restore([], [], told)
    assert not any(other.breakers().values())


def test_a_restart_counts_the_day_s_loss_and_forgives_what_was_resumed(tmp_path: Path) -> None:
    clock = FakeClock()
    held = limits(tmp_path, loss_per_day=Usd(100 * USD))
    lost = Spent("test", clock.now - 50, Wei(1), reverted=False, plan="p", net_usd=Usd(-150 * USD))
    risk = Risk("test", held, clock)
    risk.restore([lost], [])
    assert risk.breakers()["loss"]
    closed = BreakerChange(clock.now - 10, "test", "loss", False, "", "operator")
    resumed = Risk("test", held, clock)
    resumed.restore([lost], [], [closed])
    assert not resumed.breakers()["loss"]


def test_a_reorg_after_a_restart_takes_out_exactly_what_it_undid(tmp_path: Path) -> None:
    clock = FakeClock()
    one = Spent("test", clock.now - 50, Wei(3), reverted=False, plan="p", tx_hash=Hash(b"\1" * 32))
    other = replace(one, plan="q", gas=Wei(5), tx_hash=Hash(b"\2" * 32))
    risk = Risk("test", limits(tmp_path), clock)
    risk.restore([one, other], [])
    for _ in range(2):
        risk.settle(Dropped("p", Hash(b"\1" * 32), "a reorg took it out of its block"))
    assert risk._ledger.gas(0) == 5
    risk.settle(Dropped("q", Hash(b"\3" * 32), "another transaction of the plan"))
    assert risk._ledger.gas(0) == 5


def test_what_a_reorg_undid_costs_nothing_and_told_twice_counts_once(
    tmp_path: Path, plans: Plans
) -> None:
    held = limits(tmp_path, loss_per_day=Usd(100 * USD))
    risk = Risk("test", held, FakeClock())
    first, second = plans.make(), plans.make()
    risk.settle(included(first, -60))
    risk.settle(included(first, -60))
    assert not risk.breakers()["loss"]
    risk.settle(Dropped(first.id, TX, "another of its transactions"))
    risk.settle(Dropped(first.id, tx_of(first), "undone by a reorg"))
    risk.settle(included(second, -60))
    assert not risk.breakers()["loss"]


def test_denied_tokens_and_protocols_are_never_sent(tmp_path: Path, plans: Plans) -> None:
    plan = plans.make()
    protocol = plan.quotes[0].opportunity.position.protocol
    refused = (
        Lists(denied_tokens=frozenset({WETH.address})),
        Lists(denied_tokens=frozenset({USDC.address})),
        Lists(allowed_tokens=frozenset({WETH.address})),
        Lists(denied_protocols=frozenset({protocol})),
        Lists(allowed_protocols=frozenset({"another"})),
    )
    for lists in refused:
        skip = Risk("test", limits(tmp_path), FakeClock(), lists=lists).admit(plan)
        assert skip is not None
        assert skip.reason is Reason.DENIED
    fitting = Lists(frozenset({WETH.address, USDC.address}), frozenset(), frozenset({protocol}))
    assert Risk("test", limits(tmp_path), FakeClock(), lists=fitting).admit(plan) is None


def test_an_unknown_token_in_a_list_is_one_line() -> None:
    twin = Token(address("twin"), "USDC", 6)
    tokens = {token.address: token for token in (USDC, WETH, twin)}
    assert find_tokens(["WETH", "0x" + USDC.address.hex()], tokens, "x") == {
        WETH.address,
        USDC.address,
    }
    for name, expected in (
        ("WETTH", "deny: no market here has a token WETTH → did you mean WETH?"),
        ("0x" + "11" * 20, f"deny: no market here has a token 0x{'11' * 20} → known here"),
        ("USDC", "deny: several tokens are called USDC → write the address"),
    ):
        with pytest.raises(ConfigError) as caught:
            find_tokens([name], tokens, "deny")
        assert str(caught.value).startswith(expected)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from keeper.journal.breakers import BreakerChange
from keeper.journal.sqlite import SqliteJournal
from tests.fake_node import FakeClock

async def main():
    journal = SqliteJournal(Path(sys.argv[1]), FakeClock(), 90, lambda n: None)
    journal.open()
    await journal.breaker(BreakerChange(1.0, "test", "loss", True, "100 USD lost", "limit"))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_an_open_breaker_stays_open_after_a_kill(tmp_path: Path, plans: Plans) -> None:
    path = tmp_path / "journal.sqlite"
    assert run_script(KILLED, str(path)) == -signal.SIGKILL
    risk = Risk("test", limits(tmp_path), FakeClock())
    risk.restore([], [], JournalReader(path).breakers())
    assert stopped(risk, plans.make()) == "loss"


def test_sweeps_and_cancels_do_not_thin_the_revert_rate(tmp_path: Path, plans: Plans) -> None:
    held = limits(tmp_path, reverts=100, revert_rate=5_000, revert_rate_of=4)
    risk = Risk("test", replace(held, gas_per_day=Wei(10**30)), FakeClock())
    for number in range(4):
        risk.settle(reverted(plans.make()))
        plan = plans.make()
        risk.settle(Cancelled(plan.id, TX, TX, 101, 21_000, Wei(GWEI)))
        risk.settle(replace(included(plans.make(), -1), items=()))
        assert risk.breakers()["revert_rate"] == (number == 3)


def test_a_reverted_sweep_is_no_lost_liquidation(tmp_path: Path, plans: Plans) -> None:
    held = limits(tmp_path, reverts=100, revert_rate=5_000, revert_rate_of=1)
    risk = Risk("test", held, FakeClock())
    sweep = replace(plans.make(), quotes=(), sweep=Holding(USDC, 10**9))
    assert risk.admit(sweep) is None
    risk.settle(reverted(sweep))
    assert not risk.breakers()["revert_rate"]
    assert not Risk("test", held, FakeClock()).breakers()["revert_rate"]


def test_what_a_rollup_charges_beside_the_gas_counts_in_the_limits(
    tmp_path: Path, plans: Plans
) -> None:
    plan = plans.make()
    first = Wei(plan.worst_cost + 1)
    for receipt in (
        replace(included(plan, 1, gas=1), data_fee=first),
        replace(reverted(plan, gas=1), data_fee=first),
        Cancelled(plan.id, TX, TX, 101, 1, Wei(GWEI), data_fee=first),
    ):
        limit = Wei(2 * plan.worst_cost)
        risk = Risk("test", limits(tmp_path, gas_per_day=limit), FakeClock())
        risk.settle(receipt)
        assert stopped(risk, plans.make()) == "gas_day"


def test_a_row_of_missed_estimates_goes_on_after_a_restart(tmp_path: Path, plans: Plans) -> None:
    held = limits(tmp_path, estimate_band=1_000, estimate_misses=2, gas_per_day=Wei(10**30))
    clock = FakeClock()

    def missed(net: int) -> Spent:
        plan = plans.make()
        (quote,) = plan.quotes
        return Spent(
            "test",
            clock.now - 60,
            Wei(1),
            reverted=False,
            plan=plan.id,
            net_usd=Usd(net * USD),
            planned_usd=plan.net_usd,
            estimated=((quote.key, quote.gross_usd),),
            won=frozenset({quote.key}),
        )

    risk = Risk("test", held, clock)
    risk.restore([missed(1)], [])
    assert not risk.breakers()["estimate"]
    plan = plans.make()
    assert risk.admit(plan) is None
    risk.settle(included(plan, 1))
    assert stopped(risk, plans.make()) == "estimate"


def test_what_may_be_mined_anyway_is_counted_while_all_is_paused(
    tmp_path: Path, plans: Plans
) -> None:
    undone, risk = plans.make(), Risk("test", limits(tmp_path), FakeClock())
    risk.pause("operator")
    assert risk.admit(undone) is not None
    risk.reserve(undone)
    risk.resume("operator")
    room = Wei(undone.worst_cost * 2 - 1)
    tight = Risk("test", limits(tmp_path, gas_per_day=room), FakeClock())
    tight.reserve(undone)
    refusal = tight.admit(plans.make())
    assert refusal is not None
    assert refusal.detail.startswith("gas_day")
    assert risk.admit(plans.make()) is None


def test_a_cancel_reserves_no_gas_of_the_calls_it_takes_back(tmp_path: Path, plans: Plans) -> None:
    plan = plans.make()
    dear = replace(plan, bid=replace(plan.bid, max_fee=Wei(2 * plan.bid.max_fee)))
    room = Wei(2 * plan.worst_cost)
    for last, fits in ((signed(dear, cancels=True), True), (signed(dear), False)):
        risk = Risk("test", limits(tmp_path, gas_per_day=room), FakeClock())
        risk.restore([], [signed(plan), last])
        assert (risk.admit(plans.make()) is None) is fits
