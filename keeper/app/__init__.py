"""The composition root: settings become objects here, and nowhere below."""

from keeper.app.keeper import Keeper, run
from keeper.app.scan import ScanRow, scan

__all__ = ["Keeper", "ScanRow", "run", "scan"]
