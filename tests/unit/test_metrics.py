import re
from collections.abc import Iterator
from dataclasses import replace
from math import isnan

import pytest
from eth_utils.address import to_checksum_address
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics

from keeper.book.faults import FaultKind
from keeper.metrics import BREAKERS, FAULTS, HANDED, METHODS, OUTCOMES, ChainLabels, Metrics
from keeper.types import (
    AtRisk,
    Backstop,
    Bid,
    Cancelled,
    Cause,
    CollateralLeg,
    Dropped,
    FlashKind,
    FlashSource,
    Head,
    Included,
    ItemOutcome,
    NextBlock,
    Opportunity,
    Plan,
    Position,
    Prices,
    Quote,
    Reason,
    Receipt,
    Replaced,
    Reverted,
    Skip,
    Stage,
    Token,
)
from keeper.units import USD, Address, Bps, Hash, Usd, Wad, Wei

WALLET = "0x" + "11" * 20
HASH = Hash(b"\x07" * 32)
HEAD = Head(7, HASH, HASH, 1_700_000_000, Wei(1), 1, 2)
STOPPED: set[str] = set()
WAITING = {"desk": 0}
STANDING: dict[str, tuple[bool, int | None]] = {"local": (False, 0)}
USDC = Token(Address(b"\x01" * 20), "USDC", 6)


def metrics() -> Metrics:
    labels = ChainLabels(12, ["aave-v3"], ["local"], [WALLET], relays=["builder"])
    made = Metrics(version="1", commit="c", mode="dry", chains={"x": labels}, strategies=["p", "q"])
    made.parts("x", {"market/m": "aave-v3", "venue/v": "v"}, stopped=lambda: STOPPED)
    made.endpoints("x", ["local"], lambda alias: STANDING[alias])
    made.backstops("x", "aave-v3", "m", [Backstop("deficit", USDC, 0)], Prices("m", USD, {}))
    made.oracle("x", "m", "WETH", 0, 0, 0.0, 0.0)
    made.channels(["desk"], WAITING.__getitem__)
    made.margin("x", "everyone", "call", 0, 0.0)
    return made


def position(borrower: int, protocol: str = "aave-v3") -> Position:
    return Position("m", protocol, Address(bytes([borrower]) * 20), (), (), 0, 5 * USD, Wad(1))


def quote(borrower: int, strategy: str, gross: int) -> Quote:
    opportunity = Opportunity(position(borrower), (), Cause.PRICE, strategy)
    flash = FlashSource(FlashKind.AAVE, USDC.address, USDC.address, 0, 0)
    return Quote(
        opportunity,
        (),
        (),
        flash,
        USDC,
        gas=0,
        proceeds=0,
        repaid=0,
        premium=0,
        gas_cost=0,
        net=0,
        net_usd=Usd(0),
        minimum_profit=0,
        gross_usd=Usd(gross),
    )


def plan(*quotes: Quote) -> Plan:
    return Plan(
        id="id",
        chain="x",
        head=HEAD,
        next_block=NextBlock(8, 0, Wei(1)),
        quotes=quotes,
        bid=Bid(Wei(0), Wei(0), 0),
        contract=USDC.address,
        calldata=b"",
        gas_limit=0,
        gas=0,
        gas_cost=Wei(25 * 10**16),
        gross_usd=Usd(0),
        net_usd=Usd(3 * USD),
        repaid_usd=Usd(0),
    )


def included(**fields: object) -> Included:
    receipt = Included("id", HASH, 8, HASH, 0, 1, Wei(1))
    return replace(receipt, **fields)  # type: ignore[arg-type]  # mypy cannot see through **fields


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def moved(subject: Metrics) -> Iterator[str]:
    """Yield the families that hold anything but the zeros they start with."""
    for family in subject.registry.collect():
        if family.name.startswith("keeper_") and any(s.value for s in family.samples):
            yield family.name


def test_every_child_exists_from_the_start() -> None:
    registry = metrics().registry
    for reason in Reason:
        for strategy in ("none", "p", "q"):
            labels = {"chain": "x", "protocol": "aave-v3", "strategy": strategy}
            assert value(registry, "keeper_skips_total", **labels, reason=reason) == 0
    for stage in Stage:
        labels = {"chain": "x", "protocol": "aave-v3", "strategy": "p", "stage": stage}
        assert value(registry, "keeper_funnel_total", **labels) == 0
    for outcome in OUTCOMES.values():
        assert value(registry, "keeper_transactions_total", chain="x", outcome=outcome) == 0
    for breaker in BREAKERS:
        assert value(registry, "keeper_breaker_open", chain="x", breaker=breaker) == 0
    for result in HANDED:
        assert (
            value(
                registry, "keeper_relay_requests_total", chain="x", relay="builder", result=result
            )
            == 0
        )
    assert all(list(family.samples) for family in registry.collect())


def test_every_metric_is_moved_by_some_method(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = metrics()
    fresh = set(moved(subject))
    assert fresh == {"keeper_build_info", "keeper_block_time_seconds"} | {
        name for name in fresh if name in {"keeper_build", "keeper_build_info"}
    }
    first = quote(1, "p", 5)
    subject.head("x", HEAD)
    subject.reorg("x", 2)
    subject.reconnect("x")
    subject.backfilled("x", 3)
    subject.positions("x", "aave-v3", 9)
    held = CollateralLeg(USDC, 1, USD, Bps(8_000), Bps(10_500))
    toxic = replace(position(1), collateral=(held,))
    subject.at_risk("x", "aave-v3", [AtRisk(toxic, (), (), Cause.PRICE)], {"m": USD})
    priced = Prices("m", USD, {USDC.address: 2 * USD})
    subject.backstops("x", "aave-v3", "m", [Backstop("deficit", USDC, 3_500_000)], priced)
    subject.reached("x", Stage.QUOTED, [first.opportunity])
    subject.skipped("x", [Skip("m", "aave-v3", USDC.address, Reason.DUST)])
    subject.missed("x", "aave-v3", "late", "other")
    subject.stages("x", {"quote": 0.2})
    subject.head_to_send("x", 0.03, HASH)
    subject.planned("x", plan(first))
    subject.dry("x", plan(first))
    subject.receipt("x", included(revenue_usd=Usd(USD), gas_cost_usd=Usd(USD)), [first])
    subject.wallet("x", WALLET, Wei(10**18), 2, is_low=True)
    subject.receipt("x", included(refill=Wei(10**17)), [first])
    subject.swept("x", included(gains={USDC.address: -5}, gas_cost_usd=Usd(USD)), Usd(7 * USD))
    subject.rpc("local", "eth_call", "ok", 0.004)
    subject.health("x", "aave-v3", range(9), [5.0] * 9)
    subject.relay_handed("x", "builder", "taken", 0.02)
    subject.relay_ended("x", "builder", "included")
    subject.breaker("x", "reverts", is_open=True)
    subject.audited("x", "aave-v3", 20, 1)
    subject.fault("x", "market/m", "drift")
    subject.rebuild("x", "market/m", ok=True)
    monkeypatch.setattr(f"{__name__}.STOPPED", {"venue/v"})
    monkeypatch.setitem(STANDING, "local", (True, 3))
    subject.plugin_error("p")
    subject.strategies(["r"], 2, 1_700_000_000.0, failed=True)
    subject.loop_lag(0.002)
    subject.loop_lag(0.001)
    subject.gc_pause(0.003)
    subject.journal_dropped(1)
    subject.reports_dropped("x", 1)
    subject.snapshot("x", 1_700_000_000.0, 10**6, 0.5)
    subject.snapshot_failed("x")
    subject.notified("desk", "given_up", 2)
    subject.margin("x", "everyone", "call", 3, 1.5)
    subject.book_rebuilt("x")
    subject.oracle("x", "m", "WETH", 12, 3_600, 0.005, -0.1)
    subject.oracle_lag("x", "m", "WETH", 24)
    still = {f.name for f in subject.registry.collect() if f.name.startswith("keeper_")}
    monkeypatch.setitem(WAITING, "desk", 4)
    assert still - set(moved(subject)) == set()
    assert value(subject.registry, "keeper_debt_at_risk_usd", chain="x", protocol="aave-v3") == 5
    backstop = {"chain": "x", "protocol": "aave-v3", "market": "m", "kind": "deficit"}
    assert value(subject.registry, "keeper_backstop_usd", **backstop) == 7
    backstop["token"] = to_checksum_address(USDC.address)
    assert value(subject.registry, "keeper_backstop_tokens", **backstop) == 3.5
    assert value(subject.registry, "keeper_loop_lag_max_seconds") == 0.002
    assert value(subject.registry, "keeper_gc_pause_max_seconds") == 0.003
    assert value(subject.registry, "keeper_plan_cost_ether", chain="x", wallet=WALLET) == 0.25
    assert value(subject.registry, "keeper_dry_net_usd_total", chain="x") == 3
    assert value(subject.registry, "keeper_swept_usd_total", chain="x") == 7
    nobody = {"chain": "x", "protocol": "none", "strategy": "none", "kind": "gas"}
    assert value(subject.registry, "keeper_cost_usd_total", **nobody) == 1
    wallet = {"chain": "x", "wallet": WALLET}
    assert value(subject.registry, "keeper_wallet_refilled_ether_total", **wallet) == 0.1
    assert value(subject.registry, "keeper_wallet_low", **wallet) == 1
    assert value(subject.registry, "keeper_part_stopped", chain="x", part="venue/v") == 1
    assert value(subject.registry, "keeper_part_stopped", chain="x", part="market/m") == 0
    assert value(subject.registry, "keeper_endpoint_lag_blocks", chain="x", endpoint="local") == 3


def test_a_backstop_of_which_no_price_was_read_has_no_value() -> None:
    subject = metrics()
    held = [Backstop("reserves", USDC, 5), Backstop("deficit", USDC, 0)]
    subject.backstops("x", "aave-v3", "m", held, Prices("m", USD, {}))
    labels = {"chain": "x", "protocol": "aave-v3", "market": "m"}
    unread = value(subject.registry, "keeper_backstop_usd", **labels, kind="reserves")
    assert unread is not None
    assert isnan(unread)
    assert value(subject.registry, "keeper_backstop_usd", **labels, kind="deficit") == 0


def test_every_kind_of_fault_has_a_child() -> None:
    assert set(FAULTS) == set(FaultKind)


def test_an_endpoint_whose_lag_is_not_known_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = metrics()
    monkeypatch.setitem(STANDING, "local", (False, None))
    shown = value(subject.registry, "keeper_endpoint_lag_blocks", chain="x", endpoint="local")
    assert shown is not None
    assert isnan(shown)


def test_money_is_shared_by_gross_profit_of_what_was_won() -> None:
    subject = metrics()
    quotes = [quote(1, "p", 300), quote(2, "q", 100), quote(3, "q", 10_000)]
    outcomes = tuple(
        ItemOutcome.of(each, ok, 1) for each, ok in zip(quotes, (True, True, False), strict=True)
    )
    subject.receipt(
        "x",
        included(
            items=outcomes,
            revenue_usd=Usd(40 * USD),
            gas_cost_usd=Usd(8 * USD),
            tip_usd=Usd(4 * USD),
        ),
        quotes,
    )
    labels = {"chain": "x", "protocol": "aave-v3"}
    registry = subject.registry
    assert value(registry, "keeper_revenue_usd_total", **labels, strategy="p") == 30
    assert value(registry, "keeper_revenue_usd_total", **labels, strategy="q") == 10
    assert value(registry, "keeper_cost_usd_total", **labels, strategy="p", kind="gas") == 6
    assert value(registry, "keeper_cost_usd_total", **labels, strategy="q", kind="tip") == 1


@pytest.mark.parametrize(
    ("receipt", "outcome", "gas"),
    [
        (Reverted("id", HASH, 8, 1, Wei(1), "r", Usd(2 * USD)), "reverted", 2),
        (Dropped("id", None, "r"), "dropped", 0),
        (Replaced("id", HASH, HASH), "replaced", 0),
        (Cancelled("id", HASH, HASH), "cancelled", 0),
    ],
)
def test_a_transaction_that_earned_nothing_only_costs(
    receipt: Receipt, outcome: str, gas: float
) -> None:
    subject = metrics()
    subject.receipt("x", receipt, [quote(1, "p", 1)])
    registry = subject.registry
    assert value(registry, "keeper_transactions_total", chain="x", outcome=outcome) == 1
    labels = {"chain": "x", "protocol": "aave-v3", "strategy": "p"}
    assert value(registry, "keeper_cost_usd_total", **labels, kind="gas") == gas
    assert value(registry, "keeper_revenue_usd_total", **labels) == 0


def test_dry_results_touch_neither_money_nor_transactions() -> None:
    subject = metrics()
    before = set(moved(subject))
    subject.dry("x", plan(quote(1, "p", 1)))
    assert set(moved(subject)) - before == {"keeper_dry_net_usd"}


def test_transaction_hash_is_an_exemplar_never_a_label() -> None:
    subject = metrics()
    subject.head_to_send("x", 0.03, HASH)
    text = open_metrics(subject.registry).decode()
    assert f'# {{tx="0x{HASH.hex()}"}} 0.03' in text
    for family in subject.registry.collect():
        for sample in family.samples:
            assert not any(re.fullmatch("(0x)?[0-9a-f]{64}", v) for v in sample.labels.values())


def test_unknown_method_is_counted_as_other() -> None:
    subject = metrics()
    subject.rpc("local", "debug_traceSomething", "failed", 1.0)
    labels = {"endpoint": "local", "result": "failed"}
    assert value(subject.registry, "keeper_rpc_requests_total", **labels, method="other") == 1
    assert "other" not in METHODS


def test_names_follow_the_rules() -> None:
    text = open_metrics(metrics().registry).decode()
    assert "_created" not in text
    for family in metrics().registry.collect():
        if family.name.startswith("keeper_"):
            assert re.fullmatch(r"keeper_[a-z]+(_[a-z]+)*", family.name)
            assert not family.documentation.endswith(".")


def test_debts_that_are_not_known_are_no_number() -> None:
    subject = metrics()
    subject.health("x", "aave-v3", range(9), None)
    labels = {"chain": "x", "protocol": "aave-v3", "fall": "0.5"}
    assert value(subject.registry, "keeper_health_positions", **labels) == 7
    assert isnan(value(subject.registry, "keeper_health_debt_usd", **labels) or 0.0)
