"""A picture of a stress run: the curve of liquidatable debt, and the cascade beside it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from keeper.errors import ConfigError
from keeper.stress.cascade import Outcome
from keeper.stress.exposure import Fallen
from keeper.types import Token
from keeper.units import USD, Address


def require() -> None:
    """Raise `ConfigError` unless matplotlib is there: better before the work than after."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ConfigError("--plot needs matplotlib", 'pip install "keeper[plot]"') from None


def draw(
    path: Path,
    multiples: Sequence[float],
    curves: Mapping[str, Sequence[Fallen]],
    outcome: Outcome,
    tokens: Mapping[Address, Token],
) -> None:
    """Write a PNG; raise `ConfigError` where it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    curve, cascade = figure.subplots(1, 2)
    for name, points in curves.items():
        fall = [100 * (multiple - 1) for multiple in multiples]
        # From the first who falls to everybody are orders of magnitude: a logarithm, and no zeros.
        curve.plot(fall, [point.debt_usd / 1e6 or math.nan for point in points], label=name)
    curve.set_yscale("log")
    curve.invert_xaxis()
    curve.set_xlabel("price change, %")
    curve.set_ylabel("liquidatable debt, million USD")
    curve.set_title("If prices fell")
    curve.grid(alpha=0.3)
    if curves:
        curve.legend(frameon=False)
    rounds = range(1, len(outcome.rounds) + 1)
    repaid = [each.repaid_usd / USD / 1e6 for each in outcome.rounds]
    cascade.bar(rounds, repaid, color="tab:red", alpha=0.7)
    cascade.set_xlabel("round")
    cascade.set_ylabel("liquidated debt, million USD")
    cascade.set_title(f"{outcome.shape}, played out")
    moved = cascade.twinx()
    for asset in _falling(outcome, tokens):
        line = [each.prices[asset] / outcome.rounds[0].prices[asset] for each in outcome.rounds]
        moved.plot(rounds, line, marker=".", label=tokens[asset].symbol)
    moved.set_ylabel("price against the first round's")
    if outcome.rounds and _falling(outcome, tokens):
        moved.legend(frameon=False, loc="upper right")
    try:
        figure.savefig(path, dpi=100, format="png")
    except OSError as error:
        raise ConfigError(f"--plot: {path} cannot be written: {error.strerror}") from None


def _falling(outcome: Outcome, tokens: Mapping[Address, Token]) -> list[Address]:
    """Return the few assets that moved most from the first round to the last."""
    if not outcome.rounds:
        return []
    first, last = outcome.rounds[0].prices, outcome.rounds[-1].prices
    moved = sorted((last[a] / first[a], a) for a in first if a in tokens and a in last)
    return [asset for ratio, asset in moved[:3] if ratio < 0.9999]
