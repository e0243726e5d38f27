"""The strategies in use, and others in their place while the keeper goes on."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from keeper.app.line import Line, seats
from keeper.config import Loaded, Settings
from keeper.errors import ConfigError
from keeper.isolation import close_strategies, open_strategies
from keeper.metrics import Metrics
from keeper.plugins import NamedStrategy, check_names
from keeper.ports import Clock

log = structlog.get_logger(__name__)

HANDOVER_SECONDS = 60.0
"""Longest the strategies replaced are kept for heads that were begun with them."""


class Strategies:
    """Load the configured strategies, and load them anew when asked.

    `again` reads the settings as they were read at the start; None where they came from no file.
    A reload that fails changes nothing.
    """

    def __init__(
        self,
        settings: Settings,
        lines: Mapping[str, Line],
        clock: Clock,
        again: Callable[[], Loaded] | None = None,
    ) -> None:
        self._settings = settings
        self._lines = lines
        self._clock = clock
        self._again = again
        self._tasks: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()
        self._replaced: list[list[NamedStrategy]] = []
        self.current: list[NamedStrategy] = []
        self.metrics: Metrics | None = None
        self.generation = 0
        self.loaded_at = 0.0
        self.fault: str | None = None

    async def open(self) -> None:
        """Load them for the first time; raise `ConfigError` for anything amiss."""
        self._take(await asyncio.to_thread(open_strategies, self._settings))

    async def close(self) -> None:
        """End the programs of strategies, those replaced too."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in (*self._replaced, self.current):
            await asyncio.to_thread(close_strategies, each)

    def request(self) -> None:
        """Reload soon: what a signal calls."""
        task = asyncio.get_running_loop().create_task(self.reload(), name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reload(self) -> None:
        """Load the strategies the settings name now, and ask them from the next head on."""
        async with self._reloading:
            try:
                loaded, opened = await asyncio.to_thread(self._load)
            except Exception as error:  # noqa: BLE001 - whatever it is, the old ones go on
                self.fault = str(error) or type(error).__name__
                if not isinstance(error, ConfigError):
                    self.fault = f"{type(error).__name__}: {self.fault}"
                log.error("strategies.not_reloaded", why=self.fault)  # noqa: TRY400 - one line
                self._show()
                return
            changed = changed_keys(self._settings, loaded.settings)
            old = self.current
            self._take(opened)
            for name in self._lines:
                self.seat(name)
        names = [each.name for each in opened]
        log.info("strategies.reloaded", generation=self.generation, strategies=names)
        if changed:
            log.warning("settings.need_restart", settings=changed)
        self._replaced.append(old)
        task = asyncio.get_running_loop().create_task(self._retire(old), name="retire")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def seat(self, chain: str) -> None:
        """Ask the current strategies on a chain, from its next head on."""
        line = self._lines[chain]
        markets = {name: market.protocol for name, market in line.book.markets.items()}
        line.strategist.exchange(seats(self.current, chain, markets))

    def as_json(self) -> dict[str, Any]:
        """Return what the status page shows."""
        enabled = {name for line in self._lines.values() for name in line.strategist.enabled}
        return {
            "generation": self.generation,
            "loaded_at": round(self.loaded_at),
            "not_reloaded": self.fault,
            "names": [each.name for each in self.current],
            "disabled": [n.name for n in self.current if self._lines and n.name not in enabled],
        }

    def _load(self) -> tuple[Loaded, list[NamedStrategy]]:
        if self._again is None:
            raise ConfigError("the settings came from no file", "restart the keeper")
        loaded = self._again()
        check_names(loaded.settings, loaded.origins.blame)
        # everything but the strategies stays what this process was started with
        mixed = self._settings.model_copy(update={"strategies": loaded.settings.strategies})
        return loaded, open_strategies(mixed, loaded.origins.blame)

    def _take(self, opened: list[NamedStrategy]) -> None:
        self.current = opened
        self.generation += 1
        self.loaded_at = self._clock.time()
        self.fault = None
        self._show()

    def _show(self) -> None:
        if self.metrics is not None:
            self.metrics.strategies(
                [each.name for each in self.current],
                self.generation,
                self.loaded_at,
                failed=self.fault is not None,
            )

    def show(self, metrics: Metrics) -> None:
        """Show it on these metrics from now on."""
        self.metrics = metrics
        self._show()

    async def _retire(self, old: list[NamedStrategy]) -> None:
        """End replaced strategies once no head asks them any more."""
        until = self._clock.monotonic() + HANDOVER_SECONDS
        while self._clock.monotonic() < until and any(  # noqa: ASYNC110 - heads end it, of every line
            line.strategist.is_exchanging for line in self._lines.values()
        ):
            await asyncio.sleep(0.5)
        await asyncio.to_thread(close_strategies, old)
        self._replaced.remove(old)


def changed_keys(old: Settings, new: Settings) -> list[str]:
    """Return the settings beside strategies that differ, by dotted name, never by value."""

    def differing(before: Any, after: Any, path: str) -> Iterable[str]:
        if isinstance(before, dict) and isinstance(after, dict):
            for key in sorted({*before, *after}):
                yield from differing(before.get(key), after.get(key), f"{path}.{key}".strip("."))
        elif before != after:
            yield path

    before, after = (each.model_dump(exclude={"strategies"}) for each in (old, new))
    return list(differing(before, after, ""))
