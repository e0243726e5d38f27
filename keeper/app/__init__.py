"""The composition root: settings become objects here, and nowhere below."""

from keeper.app.comparison import Comparison, compare
from keeper.app.keeper import Keeper, run
from keeper.app.outcome import Outcome
from keeper.app.recording import Recorded, record
from keeper.app.replay import Audited, Variant, audit, replay
from keeper.app.scan import ScanRow, scan
from keeper.app.stress import Asked, Stressed, stress
from keeper.app.taped import chain_of

__all__ = [
    "Asked",
    "Audited",
    "Comparison",
    "Keeper",
    "Outcome",
    "Recorded",
    "ScanRow",
    "Stressed",
    "Variant",
    "audit",
    "chain_of",
    "compare",
    "record",
    "replay",
    "run",
    "scan",
    "stress",
]
