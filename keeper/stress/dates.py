"""When the rows of a price history were: read from its first column."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from keeper.errors import ConfigError

_EARLIEST = 1e8
"""A smaller number is a row's place or a date without dashes, and no Unix time anybody traded at."""
_HINT = "dates such as 2024-01-31, 2024-01-31 13:05 or Unix seconds come first in every line"


def step_of(dates: Sequence[tuple[int, str]], path: Path) -> float:
    """Return the median seconds between two rows, given each one's line and first column.

    Dates are ISO 8601, in UTC where they say nothing else, or Unix time in seconds, milliseconds or
    microseconds. One that cannot be read, or is not after the one before it, is an error.
    """
    times = [_seconds(text, path, line) for line, text in dates]
    steps = [later - earlier for earlier, later in pairwise(times)]
    for step, (line, text) in zip(steps, dates[1:], strict=True):
        if step <= 0:
            raise ConfigError(
                f"{path}, line {line}: {text} is not after the line before", "sort it, oldest first"
            )
    return median(steps)


def _seconds(text: str, path: Path, line: int) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if _EARLIEST <= number < _EARLIEST * 1e9:
        # each unit's numbers begin where those of the one before are of a year beyond 5000
        return number / (1e6 if number >= _EARLIEST * 1e6 else 1e3 if number >= 1e11 else 1)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(f"{path}, line {line}: {text or 'nothing'} is no date", _HINT) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
