"""Live needs the file and the flag."""

import pytest

from keeper.execution.mode import Mode, live_or_dry


@pytest.mark.parametrize(
    ("mode", "flag", "live", "named"),
    [
        ("live", True, True, []),
        ("live", False, False, ["--live"]),
        ("dry", True, False, ['mode = "live"']),
        ("dry", False, False, ['mode = "live"', "--live"]),
    ],
)
def test_whichever_is_missing_is_named(
    mode: Mode, flag: bool, live: bool, named: list[str]
) -> None:
    got, missing = live_or_dry(mode, flag=flag)
    assert got is live
    assert all(name in missing for name in named)
    assert bool(missing) is not live
