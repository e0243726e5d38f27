"""What a strategy imports: the nouns of the line, the two seams it meets, units and errors.

Everything else in the package is internal and may change between releases; this face changes only
together with `PLUGIN_API`.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from keeper.child import Child
    from keeper.errors import ConfigError, KeeperError, PluginError, TransientError
    from keeper.fees import BidOutcome, BidRecord, DataFee, FeeHistory, Inclusion
    from keeper.ports import Strategy, Terms
    from keeper.types import (
        AtRisk,
        Bid,
        Cause,
        CollateralLeg,
        DebtLeg,
        FlashKind,
        FlashSource,
        Head,
        Hop,
        Limits,
        NextBlock,
        Opportunity,
        Portion,
        Position,
        Prices,
        Quote,
        Reason,
        Seizure,
        Skip,
        Step,
        Token,
        View,
    )
    from keeper.units import (
        BPS,
        RAY,
        USD,
        WAD,
        Address,
        Bps,
        Hash,
        Ray,
        Usd,
        Wad,
        Wei,
        convert_down,
        convert_up,
        mul_div_down,
        mul_div_up,
    )

PLUGIN_API = 1
"""Rises when this face changes in a way that can break a plug-in."""

__all__ = [
    "BPS",
    "PLUGIN_API",
    "RAY",
    "USD",
    "WAD",
    "Address",
    "AtRisk",
    "Bid",
    "BidOutcome",
    "BidRecord",
    "Bps",
    "Cause",
    "Child",
    "CollateralLeg",
    "ConfigError",
    "DataFee",
    "DebtLeg",
    "FeeHistory",
    "FlashKind",
    "FlashSource",
    "Hash",
    "Head",
    "Hop",
    "Inclusion",
    "KeeperError",
    "Limits",
    "NextBlock",
    "Opportunity",
    "PluginError",
    "Portion",
    "Position",
    "Prices",
    "Quote",
    "Ray",
    "Reason",
    "Seizure",
    "Skip",
    "Step",
    "Strategy",
    "Terms",
    "Token",
    "TransientError",
    "Usd",
    "View",
    "Wad",
    "Wei",
    "convert_down",
    "convert_up",
    "mul_div_down",
    "mul_div_up",
]


def __getattr__(name: str) -> typing.Any:
    """Load the face when it is first looked at: `keeper --help` has no use for it."""
    if name in __all__:
        for module in ("child", "errors", "fees", "ports", "types", "units"):
            found = importlib.import_module(f"keeper.{module}")
            if name in vars(found):
                return globals().setdefault(name, vars(found)[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
