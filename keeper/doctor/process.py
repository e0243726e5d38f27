"""Checks of what stands on this machine: plug-ins, journal, port."""

import asyncio
import errno
import socket
import sqlite3
import stat
import tempfile

import aiohttp

from keeper.config import Http, Loaded, Settings
from keeper.doctor.check import Finding, State
from keeper.errors import ConfigError
from keeper.isolation import close_strategies, open_strategies
from keeper.journal.home import open_home
from keeper.journal.read import JournalReader
from keeper.plugins import check_names
from keeper.risk.latches import LATCHED


async def check_settings(loaded: Loaded) -> Finding:
    """Look at names that must be known and chains that have something to watch."""
    settings = loaded.settings
    check_names(settings, loaded.origins.blame)
    if not settings.chains:
        raise ConfigError("no chain is configured", "add [chains.NAME] or run `keeper init`")
    for name, chain in settings.chains.items():
        if not chain.markets:
            raise ConfigError(f"chains.{name} has no market", f"add [chains.{name}.markets.NAME]")
    files = {str(path) for path in loaded.files}
    overrides = sum(each not in files for each in loaded.origins.names.values())
    named = ", ".join(str(path) for path in loaded.files)
    return State.OK, named + (f" and {overrides} overrides" if overrides else ""), ""


async def check_strategies(loaded: Loaded) -> Finding:
    """Load every configured strategy, and start what runs beside the keeper."""
    strategies = await asyncio.to_thread(open_strategies, loaded.settings, loaded.origins.blame)
    await asyncio.to_thread(close_strategies, strategies)
    return State.OK, ", ".join(each.name for each in strategies), ""


async def check_journal(settings: Settings) -> Finding:
    """Write a file where the journal goes."""
    stood = settings.journal.home.stat().st_mode if settings.journal.home.is_dir() else 0
    home = open_home(settings.journal.home)
    try:
        with tempfile.NamedTemporaryFile(dir=home, prefix=".doctor-"):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot write to {home}: {error.strerror}", "set journal.home or KEEPER_HOME"
        ) from None
    if settings.kill_file.exists():
        return State.WARN, f"kill file {settings.kill_file} exists", "remove it to allow sending"
    if stood & 0o077:
        return (
            State.WARN,
            f"others could enter {home}; it is closed now",
            "look who read the journal",
        )
    return State.OK, str(home), ""


async def check_control(settings: Settings) -> Finding:
    """Look at the control socket and the breakers that would keep a start from sending."""
    path = settings.journal.home / "control.sock"
    if path.exists():
        mode = path.stat().st_mode
        if not stat.S_ISSOCK(mode):
            raise ConfigError(f"{path} is no socket", "remove it: the keeper listens there")
        if mode & 0o077:
            return State.WARN, f"others may command the keeper through {path}", f"chmod 600 {path}"
    if settings.journal_file.exists():
        try:
            changes = JournalReader(settings.journal_file).breakers()
        except sqlite3.OperationalError:
            changes = []  # of an older keeper: the start migrates it
        held = [
            f"{change.chain} {change.name}"
            for change in changes
            if change.is_open and change.name in LATCHED
        ]
        if held:
            return State.WARN, f"still open: {', '.join(held)}", "`keeper resume` closes them"
    return State.OK, "answering" if path.exists() else "no keeper is running", ""


async def check_port(http: Http, *, beside: bool = False) -> Finding:
    """Take the status server's port for a moment; a keeper there is well when looked at `beside`."""
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    with socket.socket(family) as taken:
        # as the server does: a port in TIME_WAIT is free
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((http.host, http.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                if beside and (found := await _keeper_at(http)) is not None:
                    return found
                raise ConfigError(
                    f"port {http.port} on {http.host} is in use",
                    "stop the other keeper, or set http.port (0 takes a free one)",
                ) from None
            raise ConfigError(
                f"cannot listen on {http.host}:{http.port}: {error.strerror}", "check http.host"
            ) from None
    open_to_all = http.host not in {"127.0.0.1", "::1", "localhost"}
    if open_to_all:
        return State.WARN, f"{http.host}:{http.port} can be reached from outside", "is that meant?"
    return State.OK, f"{http.host}:{http.port} is free", ""


async def _keeper_at(http: Http) -> Finding | None:
    """Judge the keeper that answers on the port; None when it is no keeper that does."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{http.port}/healthz"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(3)) as session,
            session.get(url) as answer,
        ):
            health = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
    if not isinstance(health, dict) or "alive" not in health:
        return None
    if health["alive"]:
        return State.OK, f"a keeper is running on {http.host}:{http.port}", ""
    return State.WARN, f"the keeper on {http.host}:{http.port} is stuck", "look at its log"
