"""Write an explanation as lines for people."""

from collections.abc import Iterator
from datetime import UTC, datetime

from keeper.cli.screen import short, usd
from keeper.journal.explanation import Explanation, Planned, Seen


def lines(found: Explanation) -> Iterator[str]:
    """Yield the verdict, then what is on record in the order it happened."""
    yield f"{found.kind} {found.id}: {found.verdict}"
    events: list[tuple[float, list[str]]] = [
        (
            seen.time,
            [_seen(seen)],
        )
        for seen in found.opportunities
    ]
    events += [
        (
            skip.time,
            [
                f"head {skip.head}  skipped {short(skip.borrower)} in {skip.market}: {skip.reason}"
                + (f" ({skip.detail})" if skip.detail else "")
                + (f" by {skip.strategy}" if skip.strategy else "")
            ],
        )
        for skip in found.skips
    ]
    events += [(plan.time, list(_plan(plan))) for plan in found.plans]
    for when, texts in sorted(events, key=lambda event: event[0]):
        stamp = datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S")
        for number, text in enumerate(texts):
            yield f" {stamp if number == 0 else ' ' * 19}  {text}"


def _seen(seen: Seen) -> str:
    return (
        f"head {seen.head}  {seen.strategy} chose {short(seen.borrower)} in {seen.market}"
        f" ({seen.cause}), health {seen.health / 10**18:.6f}{', toxic' if seen.toxic else ''}, opportunity {seen.id}"
    )


def _plan(plan: Planned) -> Iterator[str]:
    yield (
        f"head {plan.head}  plan {plan.id}: {len(plan.items)} liquidations, gross"
        f" {usd(plan.gross_usd)} USD, net {usd(plan.net_usd)} USD, gas {plan.gas:,}"
    )
    for item in plan.items:
        why = f": {item.reason}" if item.reason else ""
        yield (
            f"  {short(item.borrower)} in {item.market} by {item.strategy}, net"
            f" {usd(item.net_usd)} USD, {item.outcome or 'pending'}{why}"
        )
    for sent in plan.transactions:
        error = f" ({sent.error})" if sent.error else ""
        yield f"  transaction {sent.hash} nonce {sent.nonce}: {sent.state}{error}"
    for ended in plan.receipts:
        where = f" in block {ended.block_number}" if ended.block_number is not None else ""
        why = f": {ended.reason}" if ended.reason else ""
        yield (
            f"  {ended.outcome}{where}{why}, gas {usd(ended.gas_cost_usd)} USD,"
            f" net {usd(ended.net_usd)} USD"
        )
