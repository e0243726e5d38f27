"""`kill -9` before and after every record of a transaction's life: nothing is lost, nothing happens twice."""

from collections.abc import Iterator

import pytest

from keeper.devnet import Devnet
from keeper.execution.life import State
from tests.chaos.crashes import PLAYS, Scene, moments
from tests.forked import prepare
from tests.live_child import FINAL, LOST, RECORDS, REOPENED


@pytest.fixture(scope="module")
def scene(devnet: Devnet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    prepare()
    before = devnet.snapshot()
    yield Scene(devnet, tmp_path_factory.mktemp("crashes"))
    devnet.revert(before)


@pytest.mark.parametrize("name", PLAYS)
def test_a_crash_at_any_record_changes_nothing(scene: Scene, name: str) -> None:
    play = PLAYS[name]
    whole, live, steps = scene.run(play)
    assert '"snapshot.restored"' in live.output.read_text()
    assert not live.deaths
    assert not whole.problems
    assert whole.liquidated == dict.fromkeys(scene.crowd, 1)
    assert whole.earned_usd > 0
    at = moments(name, steps)
    assert play.kinds <= {kind for step in at for kind in step.kinds}
    assert {(step.kind, step.count) for step in at if step.is_written} == {
        (step.kind, step.count) for step in at if not step.is_written
    }
    wrong = []
    for step in at:
        crashed, live, _ = scene.run(play, step)
        found = list(crashed.problems)
        if live.deaths != 1:
            found.append(f"it died {live.deaths} times")
        if crashed.liquidated != whole.liquidated:
            found.append(f"liquidated {crashed.liquidated}")
        if abs(crashed.earned_usd - whole.earned_usd) * 10_000 > whole.earned_usd:
            found.append(f"earned {crashed.earned_usd}, without a crash {whole.earned_usd}")
        print(f"{step}: {'; '.join(found) or 'the same'}")
        wrong += [f"{step}: {each}" for each in found]
    assert not wrong


def test_every_record_is_crashed_at() -> None:
    known = {"planned", "signed", "sent", "settled", "reopened", "finished", "lost"}
    assert set(RECORDS) == known, "the journal keeps something new: a course has to lead there"
    crashed = {kind for play in PLAYS.values() for kind in play.kinds}
    assert crashed == {*State, REOPENED, FINAL, LOST}
