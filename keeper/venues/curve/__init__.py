"""StableSwap and crypto pools of Curve, read at each head and sold to in exact integers."""

from keeper.venues.curve.venue import Curve

__all__ = ["Curve"]
