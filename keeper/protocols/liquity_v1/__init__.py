"""Liquity V1 family: troves, a stability pool, and a reserve that pays whoever liquidates."""

from keeper.protocols.liquity_v1.market import LiquityV1

__all__ = ["LiquityV1"]
