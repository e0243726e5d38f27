"""Aave v3 and its forks: `AaveV3` follows one market of pool revision 10 (v3.6)."""

from keeper.protocols.aave_v3.market import AaveV3

__all__ = ["AaveV3"]
