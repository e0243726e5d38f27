"""Pairs of one Uniswap V2 factory or a fork of it, exact to the wei from their `Sync` events."""

from keeper.venues.uniswap_v2.venue import UniswapV2

__all__ = ["UniswapV2"]
