"""Weighted pools of a Balancer V2 vault, exact to the wei from the vault's own logs."""

from keeper.venues.balancer_v2.venue import BalancerV2

__all__ = ["BalancerV2"]
