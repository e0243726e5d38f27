"""Progress of a load: log lines at an interval with rate and ETA, bars on a terminal."""

import io

from rich.console import Console
from rich.progress import Progress
from structlog.testing import capture_logs

from keeper.app.progress import LoggedProgress
from keeper.cli.progress import Bars, bars


class Ticking:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines_tell_percent_rate_and_the_time_left() -> None:
    clock = Ticking()
    progress = LoggedProgress("ethereum", interval=10, monotonic=clock)
    with capture_logs() as lines:
        # 1,000 of 5,000 blocks came from a checkpoint: they say nothing about the rate.
        progress.report("history of main", "blocks", 1_000, 5_000)
        clock.now += 9
        progress.report("history of main", "blocks", 1_900, 5_000)
        clock.now += 1
        progress.report("history of main", "blocks", 2_000, 5_000)
        clock.now += 4
        progress.report("history of main", "blocks", 2_400, 5_000)
        clock.now += 26
        progress.report("history of main", "blocks", 5_000, 5_000)
    assert lines == [
        {
            "event": "bootstrap.progress",
            "log_level": "info",
            "chain": "ethereum",
            "stage": "history of main",
            "percent": 40.0,
            "blocks_per_second": 100.0,
            "eta_seconds": 30,
        },
        {
            "event": "bootstrap.progress",
            "log_level": "info",
            "chain": "ethereum",
            "stage": "history of main",
            "percent": 100.0,
            "blocks_per_second": 100.0,
            "eta_seconds": 0,
        },
    ]


def test_a_short_stage_is_not_worth_a_line_and_a_stuck_one_has_no_eta() -> None:
    clock = Ticking()
    progress = LoggedProgress("ethereum", interval=10, monotonic=clock)
    with capture_logs() as lines:
        for _ in range(2):
            progress.report("holders of main", "reads", 0, 5)
            clock.now += 3
            progress.report("holders of main", "reads", 5, 5)
        progress.report("history of main", "blocks", 0, 5)
        clock.now += 11
        progress.report("history of main", "blocks", 0, 5)
    assert [line["eta_seconds"] for line in lines] == [None]


def test_bars_are_drawn_for_long_stages_and_leave_nothing() -> None:
    clock = Ticking()
    drawn = io.StringIO()
    screen = Progress(console=Console(file=drawn, force_terminal=True), auto_refresh=False)
    made = Bars(screen, clock)
    progress = made.of("base")
    progress.report("history of main", "blocks", 0, 10)
    progress.report("history of main", "blocks", 10, 10)
    assert drawn.getvalue() == ""
    progress.report("history of main", "blocks", 0, 10)
    clock.now += 2
    progress.report("history of main", "blocks", 3, 10)
    screen.refresh()
    assert "base: history of main (blocks)" in drawn.getvalue()
    assert "30%" in drawn.getvalue()
    progress.report("history of main", "blocks", 6, 10)
    assert [task.completed for task in screen.tasks] == [6]
    progress.report("history of main", "blocks", 10, 10)
    assert not screen.tasks
    assert not screen.live.is_started


def test_there_are_no_bars_without_a_terminal() -> None:
    with bars() as made:
        assert made is None
