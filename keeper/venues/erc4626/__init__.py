"""Vaults of the ERC-4626 standard, redeemed for their asset at the rate of the block to come."""

from keeper.venues.erc4626.venue import Erc4626

__all__ = ["Erc4626"]
