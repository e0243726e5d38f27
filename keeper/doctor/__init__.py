"""Named checks of everything that must stand before the keeper runs."""

from keeper.doctor.check import Check, State, refuse, worst
from keeper.doctor.examination import examine, require, require_watching

__all__ = ["Check", "State", "examine", "refuse", "require", "require_watching", "worst"]
