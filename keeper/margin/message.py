"""What a borrower is told: the position, what liquidates it, how likely, and what helps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keeper.margin import wording
from keeper.margin.figures import (
    Crossing,
    Remedy,
    add_up,
    crossings,
    liquidation_cost_up,
    repay_up,
)
from keeper.margin.levels import Kind, Ladder, Level, Standing
from keeper.margin.watch import Watch
from keeper.notify.note import Note, Severity
from keeper.types import Position, Prices, Token
from keeper.units import BPS, ZERO_ADDRESS, Address, Hash, to_hex

DIGEST_LINES = 20
"""Positions named in the text of a digest, the worst."""
DIGEST_ROWS = 500
"""Positions in a digest's data, the worst: a message has to stay one that channels take."""
SEVERITIES = {
    Level.SAFE: Severity.INFO,
    Level.WARNING: Severity.INFO,
    Level.CALL: Severity.WARNING,
    Level.CRITICAL: Severity.CRITICAL,
    Level.LIQUIDATABLE: Severity.CRITICAL,
}


@dataclass(frozen=True, slots=True)
class Taken:
    """One liquidation as the chain tells it; amounts in the tokens' own units.

    `ordinal` counts the position's liquidations within the transaction: a reorg that moves that to
    another place changes `index`, the place of the log in the block, and nothing else.
    """

    number: int
    tx_hash: Hash
    index: int
    borrower: Address
    debt: Token
    collateral: Token
    repaid: int
    seized: int
    liquidator: Address
    ordinal: int = 0


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything a message says of one position at one head; `drawn` is from paths out of history."""

    chain: str
    head: int
    time: float
    watch: Watch
    position: Position
    prices: Prices
    ladder: Ladder
    chances: Mapping[float, float]
    drawn: float | None = None


def subject_of(chain: str, watch: str, market: str, borrower: Address) -> str:
    """Return what messages about one position have in common, so that they stay in order."""
    return f"margin/{chain}/{watch}/{market}/{to_hex(borrower)}"


def liquidation_key(subject: str, taken: Taken) -> str:
    """Return the key of the message about one liquidation: the same whenever it is found."""
    return f"{subject}/{to_hex(taken.tx_hash)}/{taken.ordinal}"


def compose(
    situation: Situation, before: Standing, after: Standing, kind: Kind, taken: Taken | None = None
) -> Note:
    """Return the message about one change."""
    position = situation.position
    watch = situation.watch.name
    subject = subject_of(situation.chain, watch, position.market, position.borrower)
    key = f"{subject}/{after.episode}.{after.changes}"
    severity = SEVERITIES[max(before.level, after.level) if kind is Kind.BETTER else after.level]
    if kind is Kind.BETTER:
        severity = min(severity, Severity.WARNING, key=list(Severity).index)
    if taken is not None:
        key = liquidation_key(subject, taken)
        severity = Severity.CRITICAL
    found = crossings(position, situation.prices)
    repay = repay_up(position, situation.watch.target, situation.prices)
    add = add_up(position, situation.watch.target, situation.prices)
    return Note(
        key,
        situation.time,
        "margin",
        severity,
        subject,
        _title(situation, before, after, kind),
        "\n".join(_lines(situation, found, repay, add, taken)),
        _data(situation, before, after, kind, found, repay, add, taken),
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """How many positions a watch has on a day, how many of them are not safe, what all owe.

    `failed` are the markets that could not be looked at: their positions are as last seen, if at all.
    """

    chain: str
    watch: str
    day: str
    watched: int
    not_safe: int
    debt_usd: float
    failed: tuple[str, ...] = ()


def digest(summary: Summary, time: float, worse: Sequence[Mapping[str, Any]]) -> Note:
    """Return the message of one day about a watch; `worse` is as `MarginCaller.listing` has it."""
    chain, watch, day = summary.chain, summary.watch, summary.day
    lines = [
        f"{each['level']}: {each['borrower']} in {each['market']}, health {each['health']}, "
        f"owes {'?' if each['debt_usd'] is None else format(each['debt_usd'], ',.0f')} USD"
        for each in worse[:DIGEST_LINES]
    ]
    if summary.not_safe > len(lines):
        lines.append(f"and {summary.not_safe - len(lines)} more")
    if summary.failed:
        lines.insert(0, f"Could not be looked at: {', '.join(summary.failed)}.")
    subject = f"digest/{chain}/{watch}"
    return Note(
        f"{subject}/{day}",
        time,
        "digest",
        Severity.INFO,
        subject,
        f"{day}, watch {watch} on {chain}: {summary.not_safe} of {summary.watched} positions not safe",
        "\n".join([f"{summary.watched} positions owe {summary.debt_usd:,.0f} USD.", *lines]),
        {
            "chain": chain,
            "watch": watch,
            "day": day,
            "positions": worse[:DIGEST_ROWS],
            "not_safe": summary.not_safe,
            "watched": summary.watched,
            "debt_usd": round(summary.debt_usd, 2),
            "failed": list(summary.failed),
        },
    )


def _title(situation: Situation, before: Standing, after: Standing, kind: Kind) -> str:
    position = situation.position
    where = f"{wording.short(position.borrower)} in {position.market} on {situation.chain}"
    health = f"health {wording.health_words(position.health)}"
    match kind:
        case Kind.WORSE:
            return f"{after.level.word}: {where}, {health}"
        case Kind.BETTER:
            return f"better, {before.level.word} → {after.level.word}: {where}, {health}"
        case Kind.REMINDER:
            return f"still {after.level.word}, not acknowledged: {where}, {health}"
        case Kind.LIQUIDATED:
            return (
                f"liquidated: {where}, {health} left" if position.debt else f"liquidated: {where}"
            )


def _lines(
    situation: Situation,
    found: Sequence[Crossing],
    repay: Sequence[Remedy],
    add: Sequence[Remedy],
    taken: Taken | None,
) -> list[str]:
    position, prices, watch = situation.position, situation.prices, situation.watch
    lines = [f"Watch {watch.name}, head {situation.head}, {wording.checksummed(position.borrower)}"]
    if taken is not None:
        by = "" if taken.liquidator == ZERO_ADDRESS else f" by {wording.short(taken.liquidator)}"
        lines.append(
            f"Block {taken.number}: {wording.amount_words(taken.debt, taken.repaid)} repaid{by} for "
            f"{wording.amount_words(taken.collateral, taken.seized)}, {to_hex(taken.tx_hash)}"
        )
    if not position.debt:
        return [*lines, "It owes nothing any more."]
    owes = ", ".join(wording.amount_words(leg.token, leg.amount, up=True) for leg in position.debt)
    held = ", ".join(wording.amount_words(leg.token, leg.amount) for leg in position.collateral)
    lines.append(
        f"Owes {owes} ({wording.usd_words(prices.usd(position.debt_value))}); holds "
        f"{held or 'no collateral'} ({wording.usd_words(prices.usd(position.collateral_value))})."
    )
    lines += [
        f"Liquidated when {wording.price_words(each, prices.unit)} "
        f"({wording.move_words(each, prices)}), nothing else moving."
        for each in found
    ]
    if situation.chances:
        spans = ", ".join(
            f"{wording.span_words(span)} {wording.chance_words(chance)}"
            for span, chance in situation.chances.items()
        )
        drawn = situation.drawn
        from_history = "" if drawn is None else f"; from history {wording.chance_words(drawn)}"
        lines.append(f"Chance of a liquidation within {spans}{from_history}.")
    helps = [f"repay {wording.remedy_words(each)}" for each in repay]
    helps += [f"add {wording.remedy_words(each)}" for each in add]
    if helps:
        lines.append(f"Back at health {wording.health_words(watch.target)}: {', or '.join(helps)}.")
    cost = prices.usd(liquidation_cost_up(position))
    lines.append(f"A liquidation of all of it would cost up to {wording.usd_words(cost)}.")
    return lines


def _data(
    situation: Situation,
    before: Standing,
    after: Standing,
    kind: Kind,
    found: Sequence[Crossing],
    repay: Sequence[Remedy],
    add: Sequence[Remedy],
    taken: Taken | None,
) -> dict[str, Any]:
    """Return the same for machines: integers as text, in the units the protocol has them in."""
    position, prices = situation.position, situation.prices
    data: dict[str, Any] = {
        "kind": str(kind),
        "chain": situation.chain,
        "market": position.market,
        "protocol": position.protocol,
        "watch": situation.watch.name,
        "borrower": wording.checksummed(position.borrower),
        "head": situation.head,
        "level": "liquidated" if kind is Kind.LIQUIDATED else after.level.word,
        "level_before": before.level.word,
        "level_now": after.level.word,
        "health": str(position.health),
        "levels": {
            level.word: str(situation.ladder.begin(level)) for level in Level if level > Level.SAFE
        },
        "debt_usd": str(prices.usd(position.debt_value)),
        "collateral_usd": str(prices.usd(position.collateral_value)),
        "debt": [_amount(leg.token, leg.amount) for leg in position.debt],
        "collateral": [
            _amount(leg.token, leg.amount) | {"threshold": leg.threshold / BPS}
            for leg in position.collateral
        ],
        "liquidated_when": [
            {
                **_token(each.token),
                "is": "at_most" if each.is_fall else "at_least",
                "price": str(each.price),
                "unit": str(prices.unit),
            }
            for each in found
        ],
        "chances": {f"{span:g}": round(chance, 6) for span, chance in situation.chances.items()},
        "target_health": str(situation.watch.target),
        "repay": [_amount(each.token, each.amount) for each in repay],
        "add": [_amount(each.token, each.amount) for each in add],
        "liquidation_cost_usd": str(prices.usd(liquidation_cost_up(position))),
    }
    if taken is not None:
        data["liquidation"] = {
            "block": taken.number,
            "transaction": to_hex(taken.tx_hash),
            "log_index": taken.index,
            "repaid": _amount(taken.debt, taken.repaid),
            "seized": _amount(taken.collateral, taken.seized),
            "liquidator": wording.checksummed(taken.liquidator),
        }
    return data


def _token(token: Token) -> dict[str, Any]:
    return {"token": token.symbol, "address": wording.checksummed(token.address)}


def _amount(token: Token, amount: int) -> dict[str, Any]:
    return {**_token(token), "amount": str(amount), "decimals": token.decimals}
