"""The collector: its pauses are seen, and what was loaded is not walked again."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from keeper.app.collection import HELD, THRESHOLDS, Collection


def test_pauses_are_seen_and_settled_objects_are_set_apart() -> None:
    pauses: list[float] = []
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    held = [[number] for number in range(50_000)]
    with Collection(pauses.append) as collection:
        assert gc.get_threshold() == THRESHOLDS
        collection.settle()
        assert gc.get_freeze_count() >= frozen + len(held)
        gc.collect()
        assert len(pauses) >= 2
        assert 0.0 < pauses[-1] < pauses[0]
        seen = len(pauses)
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert len(pauses) == seen


def test_nothing_is_collected_while_a_head_of_few_is_decided_on() -> None:
    pauses: list[float] = []
    with Collection(pauses.append) as collection:
        collection.settle()
        pauses.clear()
        with collection.held():
            with collection.held():
                kept = [[number] for number in range(HELD // 2)]
            assert not pauses
            kept += [[number] for number in range(HELD // 4)]
            assert not pauses
        assert gc.get_threshold() == THRESHOLDS
        assert len(pauses) == 1
        assert gc.get_count()[0] < THRESHOLDS[0] // 2
        pauses.clear()
        with collection.held():
            pass
        assert not pauses
    assert kept


def test_a_crowd_is_walked_once_and_in_pieces() -> None:
    with Collection(lambda _: None) as collection, generations() as seen:
        collection.settle()
        seen.clear()
        crowd: list[list[int]] = []
        for _ in range(3):
            crowd = []
            with collection.held():
                crowd += [[number] for number in range(5 * HELD)]
        assert len(seen) >= 12
        assert set(seen) == {0}
        seen.clear()
        for _ in range(3):
            with collection.held():
                assert len(crowd) == 5 * HELD
        assert seen == [1]
        assert gc.get_count()[1] == 0
    assert crowd


@contextmanager
def generations() -> Iterator[list[int]]:
    """Collect which generations are collected."""
    seen: list[int] = []

    def on_phase(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(on_phase)
    try:
        yield seen
    finally:
        gc.callbacks.remove(on_phase)
