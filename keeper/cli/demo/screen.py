"""How the demo looks in a terminal: a line per step, a table of the crash, a summary."""

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from keeper.cli.demo.tally import Summary, Tally
from keeper.cli.screen import short
from keeper.devnet.lending import LENDING
from keeper.engine import Report
from keeper.types import Skip
from keeper.units import USD, to_hex

SKIPS_SHOWN = 2
"""Refusals printed per block; all of them are in the journal."""


class Screen:
    """Prints the demo as it goes; `quiet` for JSON."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._started = time.monotonic()
        self._told: set[tuple[bytes, str]] = set()
        self._markets: Sequence[str] = ()

    def title(self, protocols: Sequence[str]) -> None:
        """Say what this is."""
        chosen = [each.contracts for name, each in LENDING.items() if name in protocols]
        stand_ins = [each for each in chosen if each.startswith("a ")]
        real = [each for each in chosen if each not in stand_ins]
        names = f"{', '.join(real)} and Uniswap V3" if real else "Uniswap V3"
        self._print(f"[bold]keeper demo[/]  a local chain with the real {names} contracts")
        for each in stand_ins:
            self._print(f"             and {each}")
        self._print()

    def progress(self, text: str) -> None:
        """Tell of a slow step of the build."""
        self._print(f"  [dim]… {escape(text)}[/]")

    def done(self, what: str, detail: str) -> None:
        """Tell what is ready."""
        self._print(f"  [green]✓[/] {what:<12} {escape(detail)}")

    def heading(self, markets: Sequence[str]) -> None:
        """Open the table of the crash; several markets have a column each, taken of at risk."""
        self._markets = markets if len(markets) > 1 else ()
        seen = f"{'at risk':>7}  {'sent':>18}  {'liquidated':>10}"
        if self._markets:
            seen = "  ".join([*(f"{market:>7}" for market in markets), f"{'sent':>4}"])
        prices = f"{'WETH':>9}  {'WBTC':>10}" if not self._markets else f"{'WETH':>9}"
        self._print()
        self._print(f"[dim]{'block':>5}  {prices}  {seen}  {'net profit':>14}[/]")

    def head(
        self, report: Report, prices: Mapping[str, int] | None, tally: Tally, before: Tally
    ) -> None:
        """Print one block: what the keeper saw, what it sent, what came of the last block's sends."""
        shown = {symbol: f"{price / USD:,.2f}" for symbol, price in (prices or {}).items()}
        won = tally.liquidations - before.liquidations
        net = (tally.net_usd - before.net_usd) / USD
        earned = f"[green]{net:>+10,.2f} USD[/]" if won else f"{'–':>14}"
        start = f"{report.view.head.number:>5}  {shown.get('WETH', ''):>9}"
        if self._markets:
            self._print(f"{start}  {self._columns(report, tally)}  {earned}")
        else:
            items = sum(len(plan.quotes) for plan in report.sent)
            wallets = len({plan.sender for plan in report.sent})
            sent = f"{len(report.sent)} tx, {items} items" if report.sent else "–"
            sent += f" by {wallets}" if wallets > 1 else ""
            self._print(
                f"{start}  {shown.get('WBTC', ''):>10}  {len(report.view.at_risk):>7}  {sent:>18}"
                f"  {won or '–':>10}  {earned}"
            )
        self._skips(report)

    def _columns(self, report: Report, tally: Tally) -> str:
        """Return of each market how many were liquidated and are at risk, and transactions sent."""
        risks = Counter(risk.position.home for risk in report.view.at_risk)
        cells = []
        for market in self._markets:
            won, seen = tally.recent[market], risks[market]
            text = f"{won or '–'}/{seen or '–'}" if won or seen else ""
            cells.append(f"[green]{text:>7}[/]" if won else f"{text:>7}")
        return "  ".join([*cells, f"{len(report.sent) or '–':>4}"])

    def _skips(self, report: Report) -> None:
        fresh: list[Skip] = []
        for skip in report.skips:
            key = (skip.borrower, str(skip.reason))
            if key not in self._told and str(skip.reason) != "in_flight":
                self._told.add(key)
                fresh.append(skip)
        for skip in fresh[:SKIPS_SHOWN]:
            self._print(
                f"  [yellow]skip[/] {short(to_hex(skip.borrower))}"
                f" {skip.reason}: {escape(skip.detail)}"
            )
        if len(fresh) > SKIPS_SHOWN:
            self._print(f"  [dim]and {len(fresh) - SKIPS_SHOWN} more skipped[/]")

    def summary(self, summary: Summary, reasons: Mapping[str, int], audit: str) -> None:
        """Print what it came to, with the reasons of those that were skipped."""
        why = ", ".join(
            reason if len(reasons) == 1 else f"{count} {reason}"
            for reason, count in reasons.items()
        )
        self._print()
        requests = f"{summary.rpc_requests_per_quiet_head:g} RPC requests per quiet head"
        for line in (
            (
                f"[bold]{summary.liquidated} of {summary.liquidatable} liquidatable "
                f"{'positions' if self._markets else 'borrowers'} "
                f"liquidated[/] in {summary.transactions} transactions"
            ),
            (
                f"{summary.skipped} skipped{f' ({why})' if why else ''}, "
                f"{summary.rejected_sends} sends rejected, {summary.reverted} reverted"
            ),
            (
                f"net profit [bold green]{summary.net_profit_usd:+,.2f} USD[/] after gas, "
                f"{summary.estimate_error_bps} bps off the estimate"
            ),
            (
                f"{summary.gas_per_liquidation:,} gas per liquidation; head to send "
                f"p50 {summary.head_to_send_ms_p50:.0f} ms, p95 {summary.head_to_send_ms_p95:.0f} ms"
            ),
            f"{requests}; {audit}",
        ):
            self._print(line)
        held = "equal" if summary.profit_is_held else "[red]do not equal[/]"
        booked = "adds up to" if summary.ledger_agrees else "[red]does not add up to[/]"
        self._print(
            f"the receipts {held} the change of balances to the wei; the journal {booked} them"
        )
        if summary.missed:
            self._print(f"[red]{summary.missed} left that would have paid[/]")
        self._parts(summary)
        for lane in summary.lanes if len(summary.lanes) > 1 else ():
            self._print(
                f"  wallet {short(lane.wallet.lower())}: {lane.liquidations} liquidated "
                f"in {lane.transactions} transactions"
            )
        self._print(f"[dim]{summary.seconds:.1f} s in all[/]")

    def _parts(self, summary: Summary) -> None:
        """Print a line for each of several protocols."""
        if len(summary.protocols) < 2:
            return
        mixed = (
            f"{summary.mixed_transactions} took from several protocols, up to {summary.most_mixed}"
        )
        self._print(f"of {summary.transactions} transactions {mixed}")
        self._print()
        self._print(
            f"[dim]{'protocol':<12}  {'borrowers':>9}  {'liquidatable':>12}  {'liquidated':>10}"
            f"  {'skipped':>7}  {'missed':>6}  {'net profit':>15}[/]"
        )
        for part in summary.protocols:
            self._print(
                f"{part.protocol:<12}  {part.borrowers:>9,}  {part.liquidatable:>12,}"
                f"  {part.liquidated:>10,}  {part.skipped:>7,}  {part.missed:>6,}"
                f"  {part.net_profit_usd:>+11,.2f} USD"
            )
        self._print()

    def hold(self, rpc: str, ws: str, keeper: str, config: Path) -> None:
        """Print what stays up, and what to do with it."""
        self._print()
        for name, value in {
            "rpc": rpc,
            "ws": ws,
            "status": f"{keeper}/status",
            "metrics": f"{keeper}/metrics",
            "config": str(config),
        }.items():
            self._print(f"  {name:<8} {escape(value)}")
        self._print()
        for command in (f"watch --url {keeper}", f"history -c {config}", f"explain -c {config} ID"):
            self._print(f"  keeper {escape(command)}")
        self._print("[dim]chain and keeper stay up; Ctrl-C ends them[/]")

    def picture(self) -> str:
        """Return what a recording console printed as SVG that loads nothing from elsewhere."""
        drawn = self._console.export_svg(title="keeper demo")
        return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)

    def _print(self, text: str = "") -> None:
        if not self._quiet:
            self._console.print(text)
