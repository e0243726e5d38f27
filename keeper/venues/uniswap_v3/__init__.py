"""Uniswap V3 pools of one factory, exact to the wei from their own logs."""

from keeper.venues.uniswap_v3.venue import UniswapV3

__all__ = ["UniswapV3"]
