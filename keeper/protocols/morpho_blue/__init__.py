"""Morpho Blue: `MorphoBlue` follows every market of one deployment, or those it is told to."""

from keeper.protocols.morpho_blue.market import MorphoBlue

__all__ = ["MorphoBlue"]
