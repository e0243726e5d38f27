"""What a simulation's result is judged by."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from keeper.execution.flight import Key
from keeper.types import Plan, Skip, View

R = TypeVar("R")


class Settled(Protocol):
    """What a simulated result means for its plan: the plan with true figures, or what to drop."""

    @property
    def plan(self) -> Plan | None:
        """Return the plan with realised net and gas, None when it no longer pays."""
        ...

    @property
    def part(self) -> Plan | None:
        """Return the plan with those alone that held, and what they bring; None when not known."""
        ...

    @property
    def failed(self) -> Mapping[Key, str]:
        """Return the positions whose liquidation failed, each with its reason."""
        ...

    @property
    def undone(self) -> frozenset[Key]:
        """Return those of the failed that held themselves, and were undone with their group."""
        ...

    @property
    def skips(self) -> Sequence[Skip]:
        """Return the opportunities given up."""
        ...


Settle = Callable[[Plan, int, R], Settled]
"""Judges a plan by the gas and the decoded result of its simulation."""

Repack = Callable[[Plan, Mapping[Key, str], View], Plan | None]
"""Packs a plan again without the failed positions; None when nothing worth sending is left."""
