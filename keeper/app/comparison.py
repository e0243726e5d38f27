"""What several strategies would do on the same view of a chain's head."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from keeper.app.line import seats
from keeper.app.replay import Variant
from keeper.app.scan import Looked, look
from keeper.config import Settings
from keeper.engine import Key, decide
from keeper.errors import PluginError
from keeper.isolation import close_strategies, open_strategies
from keeper.plugins import NamedStrategy
from keeper.ports import Progress
from keeper.strategist import Strategist
from keeper.types import Quote
from keeper.units import Usd, Wad

NOTHING_SAID = "it said nothing of this position"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one strategy does about one position: the net of what it takes, or why it does not."""

    net_usd: Usd | None
    told: str


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One position at risk, and a verdict by each strategy in their order."""

    health: Wad
    market: str
    borrower: str
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Verdicts on every position at risk at one head, and what each strategy's plans net together."""

    head: int
    names: tuple[str, ...]
    rows: tuple[ComparedRow, ...]
    plans: tuple[int, ...]
    nets_usd: tuple[Usd, ...]


async def compare(
    settings: Settings,
    chain: str,
    variants: Sequence[Variant],
    progress: Callable[[str], Progress] | None = None,
) -> Comparison:
    """Ask each variant about the same view, plan what it bids, and send nothing."""
    async with AsyncExitStack() as stack:
        # what cannot be used is told before a whole market is read
        opened = [await _open(variant, stack) for variant in variants]
        looked = await look(settings, chain, stack, progress)
        answers = [
            await _decide(looked, variant, strategies, stack)
            for variant, strategies in zip(variants, opened, strict=True)
        ]
        rows = tuple(
            ComparedRow(
                risk.position.health,
                risk.position.market,
                to_checksum_address(risk.position.borrower),
                tuple(
                    verdicts.get(risk.position.key, Verdict(None, NOTHING_SAID))
                    for verdicts, _ in answers
                ),
            )
            for risk in sorted(looked.view.at_risk, key=lambda each: each.position.health)
        )
        return Comparison(
            looked.view.head.number,
            tuple(variant.name for variant in variants),
            rows,
            tuple(len(nets) for _, nets in answers),
            tuple(Usd(sum(nets)) for _, nets in answers),
        )


async def _open(variant: Variant, stack: AsyncExitStack) -> list[NamedStrategy]:
    strategies = await asyncio.to_thread(open_strategies, variant.settings, variant.blame)
    stack.callback(close_strategies, strategies)
    return strategies


async def _decide(
    looked: Looked, variant: Variant, strategies: Sequence[NamedStrategy], stack: AsyncExitStack
) -> tuple[dict[Key, Verdict], list[int]]:
    """Return a verdict by position, and the net of each plan."""
    view, planner = looked.view, looked.planner(variant.settings)
    strategist = Strategist(seats(strategies, looked.chain, looked.watched.markets), _raise)
    stack.callback(strategist.close)
    choices, unchosen = await strategist.select(view)
    decided = await decide(view, choices, strategist, planner)
    verdicts = {
        (skip.market, skip.borrower): Verdict(None, f"{skip.reason}: {skip.detail}")
        for skip in reversed([*looked.skips, *unchosen, *decided.skips])
    }
    for plan in decided.plans:
        for quote in plan.quotes:
            key, net, told = quote.opportunity.key, quote.net_usd, _told(quote)
            if quote.part and (before := verdicts[key]).net_usd is not None:
                net, told = Usd(before.net_usd + net), f"{before.told}, then {told}"
            verdicts[key] = Verdict(net, told)
    return verdicts, [plan.net_usd for plan in decided.plans]


def _told(quote: Quote) -> str:
    """Say what is repaid for what, call by call."""
    calls = []
    for step in quote.steps:
        debt, collateral = step.terms.debt, step.terms.collateral
        repaid = step.seizure.repaid / 10**debt.decimals
        received = step.seizure.received / 10**collateral.decimals
        calls.append(f"repay {repaid:,.6g} {debt.symbol} for {received:,.6g} {collateral.symbol}")
    return ", then ".join(calls)


def _raise(error: PluginError) -> None:
    raise error
