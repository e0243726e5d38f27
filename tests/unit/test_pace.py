"""The pace: all that is at risk as long as there is time for it, and less when heads come sooner."""

from keeper.book.pace import LEAST, Pace


class Watch:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def rounds(
    candidates: int, each: float, apart: float, count: int, fixed: float = 0.0, missed: int = 0
) -> tuple[list[bool], Pace]:
    """Return which heads were decided on, when each position takes so long and heads come so fast.

    `fixed` seconds are spent whatever is judged, and the first `missed` heads come too early.
    """
    clock = Watch()
    pace = Pace(clock)
    decided = []
    for number in range(count):
        pace.begin()
        most = candidates if pace.most is None else min(pace.most, candidates)
        spent = apart if number < missed else fixed + most * each
        decided.append(spent < apart)
        if spent < apart:
            clock.now += spent
            pace.done(candidates)
            clock.now += apart - spent
        else:
            clock.now += apart
            pace.overtaken(candidates)
    return decided, pace


def test_all_are_judged_while_there_is_time() -> None:
    decided, pace = rounds(5_000, 60e-6, 12.0, 50)
    assert all(decided)
    assert pace.most is None


def test_more_than_fits_between_two_heads_is_decided_on_all_the_same() -> None:
    decided, pace = rounds(40_000, 60e-6, 0.25, 60)
    assert decided[:2] == [False, False]
    assert all(decided[8:])
    assert pace.most is not None
    assert 0.05 < pace.most * 60e-6 < 0.25


def test_one_early_head_changes_nothing() -> None:
    clock = Watch()
    pace = Pace(clock)
    for _ in range(3):
        pace.begin()
        pace.overtaken(1_000)
        pace.begin()
        pace.done(1_000)
        assert pace.most is None


def test_after_a_burst_of_heads_all_are_judged_again_soon() -> None:
    """Heads that were missed come all at once."""
    clock = Watch()
    pace = Pace(clock)
    for _ in range(20):
        pace.begin()
        clock.now += 0.01
        pace.overtaken(3_000)
    assert pace.most == LEAST
    for _ in range(3):
        pace.begin()
        clock.now += 0.005
        pace.done(3_000)
        clock.now += 12.0
    assert pace.most is None


def test_what_is_spent_whatever_is_judged_does_not_keep_it_small() -> None:
    decided, pace = rounds(2_000, 50e-6, 0.25, 60, fixed=0.13, missed=12)
    assert all(decided[12:])
    assert pace.most is not None
    assert 0.13 + 50e-6 * pace.most > 0.19


def test_few_are_never_cut_down() -> None:
    pace = Pace(Watch())
    for _ in range(5):
        pace.begin()
        pace.overtaken(LEAST)
    assert pace.most is None
