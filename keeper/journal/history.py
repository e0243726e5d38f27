"""Money earned and spent, one row per transaction, and the same as CSV for accounting."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from keeper.journal.explanation import Ended, Item, Planned

COLUMNS = (
    "date",
    "chain",
    "block",
    "transaction",
    "outcome",
    "strategy",
    "market",
    "borrowers",
    "token",
    "amount_in",
    "amount_out",
    "price_usd",
    "price_source",
    "gas_native",
    "gas_usd",
    "tip_usd",
    "net_usd",
)

SWEEP = "sweep"
"""Stands for a strategy where profit went to the treasury."""
CONVERSION = "convert"
"""Stands for a strategy where profit was sold for another token."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One token of one transaction; `paid` is debt repaid and premium, `received` the sales.

    `received − paid` is the gain the chain reported, tip already taken out. What a sweep moved to the
    treasury, or a conversion sold, is `paid`, and no cost.
    """

    token: str
    symbol: str
    decimals: int
    received: int
    paid: int
    price_usd: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One transaction that paid gas; dollars have 8 decimals, `gas` is native wei, a rollup's data fee counted in.

    `borrowers` is how many it liquidated, one of two markets twice.
    """

    time: float
    chain: str
    block: int
    transaction: str
    outcome: str
    plan: str
    strategies: tuple[str, ...]
    markets: tuple[str, ...]
    borrowers: int
    flows: tuple[Flow, ...]
    gas: int
    gas_usd: int
    tip_usd: int
    net_usd: int
    price_source: str


def history(plans: Iterable[Planned]) -> Iterator[Entry]:
    """Return one entry per receipt that paid gas."""
    for plan in plans:
        for receipt in plan.receipts:
            block, used, price = receipt.block_number, receipt.gas_used, receipt.gas_price
            if block is not None and used is not None and price is not None:
                yield _entry(plan, receipt, block, used * price + receipt.data_fee)


def _entry(plan: Planned, receipt: Ended, block: int, gas: int) -> Entry:
    done = [item for item in plan.items if item.outcome == "liquidated"]
    markets = tuple(sorted({item.market for item in plan.items}))
    return Entry(
        time=receipt.block_time if receipt.block_time is not None else receipt.time,
        chain=plan.chain,
        block=block,
        transaction=receipt.hash or "",
        outcome=receipt.outcome,
        plan=plan.id,
        strategies=_strategies(plan),
        markets=markets,
        borrowers=len({(item.market, item.borrower) for item in done}),
        flows=tuple(_flows(plan, receipt, done)),
        gas=gas,
        gas_usd=receipt.gas_cost_usd or 0,
        tip_usd=receipt.tip_usd or 0,
        net_usd=receipt.net_usd or 0,
        price_source=f"oracle of {', '.join(markets) or 'the markets'} at block {plan.head}",
    )


def _strategies(plan: Planned) -> tuple[str, ...]:
    if plan.record.get("conversion"):
        return (CONVERSION,)
    if plan.record.get("sweep"):
        return (SWEEP,)
    return tuple(sorted({item.strategy for item in plan.items}))


def _flows(plan: Planned, receipt: Ended, done: list[Item]) -> Iterator[Flow]:
    paid: dict[str, int] = {}
    for item in done:
        paid[item.debt] = paid.get(item.debt, 0) + item.repaid + item.premium
    if plan.record.get("sweep"):
        paid = {token: -gain for token, gain in receipt.gains.items() if gain < 0}
    tokens = _tokens(plan.record)
    prices = plan.record.get("prices", {})
    for address in sorted(paid.keys() | {token for token, gain in receipt.gains.items() if gain}):
        symbol, decimals = tokens.get(address, (address, 0))
        price = prices.get(address)
        out = paid.get(address, 0)
        yield Flow(
            address,
            symbol,
            decimals,
            out + receipt.gains.get(address, 0),
            out,
            None if price is None else int(price),
        )


def _tokens(record: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """Return symbol and decimals of every token a recorded plan names."""
    found: dict[str, tuple[str, int]] = {}
    for quote in record["quotes"]:
        position = quote["opportunity"]["position"]
        legs = [leg["token"] for leg in (*position["collateral"], *position["debt"])]
        for token in (quote["debt"], *legs):
            found[token["address"]] = (token["symbol"], int(token["decimals"]))
    if record.get("sweep"):
        token = record["sweep"]["token"]
        found[token["address"]] = (token["symbol"], int(token["decimals"]))
    if record.get("conversion"):
        token = record["conversion"]["receive"]
        found[token["address"]] = (token["symbol"], int(token["decimals"]))
    return found


def write_csv(entries: Iterable[Entry], file: TextIO) -> int:
    """Write one line per transaction and token and return their number.

    Gas, tip and net stand on a transaction's first line only, so that columns can be summed.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    lines = 0
    for entry in entries:
        for index, flow in enumerate(entry.flows or (None,)):
            writer.writerow([*_head(entry), *_flow(flow), *_tail(entry, first=index == 0)])
            lines += 1
    return lines


def _head(entry: Entry) -> list[object]:
    date = datetime.fromtimestamp(entry.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    strategies, markets = " ".join(entry.strategies), " ".join(entry.markets)
    return [
        date,
        entry.chain,
        entry.block,
        entry.transaction,
        entry.outcome,
        strategies,
        markets,
        entry.borrowers,
    ]


def _flow(flow: Flow | None) -> list[object]:
    if flow is None:
        return ["", "", "", ""]
    price = "" if flow.price_usd is None else decimal(flow.price_usd, 8)
    return [
        flow.symbol,
        decimal(flow.received, flow.decimals),
        decimal(flow.paid, flow.decimals),
        price,
    ]


def _tail(entry: Entry, *, first: bool) -> list[object]:
    if not first:
        return [entry.price_source, "", "", "", ""]
    dollars = (decimal(value, 8) for value in (entry.gas_usd, entry.tip_usd, entry.net_usd))
    return [entry.price_source, decimal(entry.gas, 18), *dollars]


def decimal(amount: int, decimals: int) -> str:
    """Write an integer amount as an exact decimal number, without trailing zeros."""
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), 10**decimals)
    fraction = str(part).zfill(decimals).rstrip("0") if decimals else ""
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
