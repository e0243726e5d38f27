"""Moves the metrics from reports and events."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from keeper.book.market import MarketBook
from keeper.engine import Report
from keeper.execution.sweeping import value_usd_down
from keeper.journal.standing import Standing
from keeper.metrics import Metrics
from keeper.observers.observation import Event, Observer
from keeper.types import (
    Included,
    Opportunity,
    Plan,
    Quote,
    Receipt,
    Stage,
)
from keeper.units import Address, Usd


def meter(
    metrics: Metrics, chain: str, markets: Mapping[str, MarketBook], fuel: Callable[[], None]
) -> Observer:
    """Return an observer that moves the metrics; `fuel` sets the gauges of wallet and breakers."""
    standing = Standing()
    counted: dict[Stage, set[tuple[str, Address, str]]] = {}

    def observe(subject: Report | Event) -> None:
        if isinstance(subject, Event):
            _meter_event(metrics, subject)
            fuel()
            return
        metrics.head(chain, subject.view.head)
        at_risk = {risk.position.key for risk in subject.view.at_risk}
        for stage, reached in _stages(subject).items():
            # A position stays on the line until it is taken: each stage counts its arrival once.
            before = {key for key in counted.get(stage, ()) if key[:2] in at_risk}
            now = {(*found.key, found.strategy): found for found in reached}
            metrics.reached(chain, stage, [now[key] for key in now.keys() - before])
            counted[stage] = before | now.keys()
        _, changed = standing.news(subject.view, (), subject.skips)
        metrics.skipped(chain, changed)
        metrics.stages(chain, subject.stages)
        units = {name: prices.unit for name, prices in subject.view.prices.items()}
        for protocol in {market.protocol.protocol for market in markets.values()}:
            held = [m.protocol for m in markets.values() if m.protocol.protocol == protocol]
            metrics.positions(chain, protocol, sum(each.borrowers() for each in held))
            metrics.at_risk(chain, protocol, subject.view.at_risk, units)
        for name, prices in subject.view.prices.items():
            lender = markets[name].protocol
            metrics.backstops(chain, lender.protocol, name, lender.backstops(), prices)
        if subject.head_to_send is not None:
            metrics.head_to_send(chain, subject.head_to_send)
        fuel()

    return observe


def _stages(report: Report) -> dict[Stage, list[Opportunity]]:
    planned = [quote for plan in report.plans for quote in plan.quotes]
    return {
        Stage.SELECTED: [choice.opportunity for choice in report.choices],
        Stage.QUOTED: [quote.opportunity for quote in report.quotes],
        Stage.BID: [quote.opportunity for quote, _ in report.bids],
        Stage.PLANNED: [quote.opportunity for quote in planned],
    }


def _meter_event(metrics: Metrics, event: Event) -> None:
    plan, receipt = event.fields.get("plan"), event.fields.get("receipt")
    if not isinstance(plan, Plan):
        return
    if plan.sweep is not None:
        if isinstance(receipt, Receipt):
            # what is sold stays on the contract
            moved = Usd(0) if plan.conversion else value_usd_down(plan, plan.sweep)
            metrics.swept(event.chain, receipt, moved)
        return
    if event.name == "plan.submitted":
        metrics.planned(event.chain, plan)
        metrics.reached(event.chain, Stage.SUBMITTED, _each_once(plan.quotes))
    elif event.name == "plan.dry":
        fresh = event.fields.get("net_usd")
        told = replace(plan, net_usd=Usd(fresh)) if isinstance(fresh, int) else plan
        metrics.dry(event.chain, told)
    elif isinstance(receipt, Receipt):
        metrics.receipt(event.chain, receipt, plan.quotes, plan.sender)
        if isinstance(receipt, Included):
            ended = zip(plan.quotes, receipt.items, strict=True)
            won = _each_once(quote for quote, item in ended if item.ok)
            metrics.reached(event.chain, Stage.INCLUDED, won)


def _each_once(quotes: Iterable[Quote]) -> list[Opportunity]:
    """Return the opportunities of quotes, one for all calls on a position."""
    return list({quote.opportunity.key: quote.opportunity for quote in quotes}.values())
