"""The collector: its pauses are seen, and what was loaded is not walked again."""

import gc

from keeper.app.collection import THRESHOLDS, Collection


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


def test_nothing_is_collected_while_heads_are_decided_on() -> None:
    pauses: list[float] = []
    with Collection(pauses.append) as collection:
        collection.settle()
        pauses.clear()
        with collection.held():
            with collection.held():
                kept = [[number] for number in range(2 * THRESHOLDS[0])]
            assert not pauses
            kept += [[number] for number in range(2 * THRESHOLDS[0])]
            assert not pauses
        assert len(pauses) == 1
        assert gc.isenabled()
        assert gc.get_count()[0] < THRESHOLDS[0] // 2
        pauses.clear()
        with collection.held():
            pass
        assert not pauses
    assert kept
