"""Wherever a scan's process is killed, the next one goes on from what was answered."""

import asyncio
from pathlib import Path

import pytest

from keeper.journal.checkpoint import SqliteCheckpoint
from keeper.journal.writer import Writer
from tests.chaos.test_chain_history import STAGE, WATCH, expected, history, key, provider
from tests.forked import run_script


@pytest.mark.parametrize("answers", [1, 10, 20])
async def test_a_process_killed_outright_is_gone_on_from(tmp_path: Path, answers: int) -> None:
    code = f"""
import asyncio, os, signal
from pathlib import Path
from keeper.journal.checkpoint import SqliteCheckpoint
from keeper.journal.writer import Writer
from tests.chaos.test_chain_history import STAGE, WATCH, history, key, provider

chain = provider(4_000)
chain.range_cap = 64
answer = chain.request

async def request(method, params):
    if len(chain.ranges) >= {answers}:
        os.kill(os.getpid(), signal.SIGKILL)
    return await answer(method, params)

chain.request = request
journal = Writer(Path({str(tmp_path / "journal.db")!r}), 16)
journal.start()
work = history(chain, SqliteCheckpoint(journal, 1)).collect(STAGE, WATCH, 0, 4_000, key)
asyncio.run(work)
"""
    for _ in range(2):
        ended = await asyncio.to_thread(run_script, code)
        assert ended == -9
    chain = provider(4_000)
    journal = Writer(tmp_path / "journal.db", 16)
    journal.start()
    found = await history(chain, SqliteCheckpoint(journal, 1)).collect(STAGE, WATCH, 0, 4_000, key)
    journal.close()
    assert found == expected(chain, 0, 4_000)
    # What was answered is on disk, but for what was in flight when it ended.
    assert 4_001 - chain.blocks_asked >= 2 * (answers - 5) * 32
