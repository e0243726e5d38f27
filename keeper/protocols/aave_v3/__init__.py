"""Aave v3 and its forks: `AaveV3` follows one market of any version from 3.0 to 3.7."""

from keeper.protocols.aave_v3.market import AaveV3

__all__ = ["AaveV3"]
