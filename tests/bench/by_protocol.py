"""What one protocol costs beside the others: a pass of its screen, a log, a liquidation."""

from collections.abc import Mapping

COLUMNS = ("pass ms", "borrowers", "fold us", "gas at 1", "gas at 20", "bare call")
ROWS: dict[str, tuple[str, int, str, str, str, str]] = {
    "aave-v3": (
        "screen_full_ms_100k",
        100_000,
        "fold_us_apply",
        "gas_per_liquidation_1",
        "gas_per_liquidation_20",
        "gas_bare_liquidation_call",
    ),
    "aave-v3 (3.0)": (
        "screen_full_ms_100k",
        100_000,
        "aave_v30_fold_us_per_log",
        "aave_v30_gas_per_liquidation_1",
        "aave_v30_gas_per_liquidation_20",
        "aave_v30_gas_bare",
    ),
    "morpho-blue": (
        "morpho_pass_ms",
        100_000,
        "morpho_fold_us",
        "morpho_gas_1",
        "morpho_gas_20",
        "morpho_gas_bare",
    ),
    "compound-v2": (
        "compound_pass_ms",
        100_000,
        "compound_fold_us",
        "compound_gas_1",
        "compound_gas_20",
        "compound_gas_bare",
    ),
    "liquity-v1": (
        "liquity_pass_ms",
        20_000,
        "liquity_fold_us",
        "liquity_gas_keeper_1",
        "liquity_gas_keeper_20",
        "liquity_gas_bare_1",
    ),
    "maker-clip bark": (
        "maker_pass_ms",
        20_000,
        "maker_fold_us",
        "maker_gas_bark_1",
        "maker_gas_bark_20",
        "maker_gas_bark_bare",
    ),
    "maker-clip take": (
        "maker_pass_ms",
        20_000,
        "maker_fold_us",
        "maker_gas_take_1",
        "maker_gas_take_20",
        "maker_gas_take_bare",
    ),
}
"""The figures of each protocol, and for how many borrowers its screen passes."""


def table(found: Mapping[str, float]) -> list[str]:
    """Return a heading and a line for each protocol of which something was measured; none for none.

    A bare call sells nothing.
    """
    lines = []
    for protocol, (passing, borrowers, fold, *gas) in ROWS.items():
        if fold in found or gas[0] in found:
            cells = (
                *(_told(found, passing, 2), f"{borrowers:,}", _told(found, fold, 1)),
                *(_told(found, name, 0) for name in gas),
            )
            lines.append(f"{protocol:<16}" + "".join(f"{cell:>12}" for cell in cells))
    if not lines:
        return []
    return [f"{'protocol':<16}" + "".join(f"{name:>12}" for name in COLUMNS), *lines]


def _told(found: Mapping[str, float], name: str, digits: int) -> str:
    return f"{found[name]:,.{digits}f}" if name in found else "–"
