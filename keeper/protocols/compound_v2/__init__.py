"""Compound V2 and its forks (Venus, Moonwell): `CompoundV2` follows one comptroller's market."""

from keeper.protocols.compound_v2.market import CompoundV2

__all__ = ["CompoundV2"]
