"""What the doctor finds on this machine: home, kill file, control socket, open breakers."""

import asyncio
import socket
from pathlib import Path

import pytest

from keeper.config import Settings
from keeper.doctor import State
from keeper.doctor.process import check_control, check_journal
from keeper.errors import ConfigError
from keeper.journal.breakers import BreakerChange
from keeper.journal.sqlite import SqliteJournal
from tests.fake_node import FakeClock


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings whose home is a private folder."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return Settings.model_validate({"journal": {"home": home}})


async def test_a_home_that_was_open_is_told_of(settings: Settings) -> None:
    assert (await check_journal(settings))[0] is State.OK
    settings.journal.home.chmod(0o755)
    state, detail, _ = await check_journal(settings)
    assert (state, "others could enter" in detail) == (State.WARN, True)
    assert (await check_journal(settings))[0] is State.OK


async def test_the_control_socket_is_looked_at(settings: Settings) -> None:
    assert (await check_control(settings))[1] == "no keeper is running"
    path = settings.journal.home / "control.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o600)
        assert (await check_control(settings))[0] is State.OK
        path.chmod(0o666)
        state, detail, hint = await check_control(settings)
    assert (state, hint) == (State.WARN, f"chmod 600 {path}")
    assert "others may command" in detail
    path.unlink()
    path.touch()
    with pytest.raises(ConfigError, match="is no socket"):
        await check_control(settings)


@pytest.mark.parametrize(("name", "state"), [("loss", State.WARN), ("kill_file", State.OK)])
async def test_a_breaker_that_waits_for_the_operator_is_told_of(
    settings: Settings, name: str, state: State
) -> None:
    journal = SqliteJournal(settings.journal_file, FakeClock(), 90, lambda _: None)
    journal.open()
    await journal.breaker(BreakerChange(1.0, "x", name, True, "100 USD lost", "limit"))
    await asyncio.to_thread(journal.close)
    found = await check_control(settings)
    assert found[0] is state
    assert (found[1] == "still open: x loss") is (state is State.WARN)
