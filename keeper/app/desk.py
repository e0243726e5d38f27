"""Where an operator's words become deeds: pause, resume, stop and sweep, by socket or signal."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import orjson
import structlog

from keeper.app.breakers import BreakerWatch
from keeper.app.ending import Ending
from keeper.app.treasury import Treasury
from keeper.app.unopened import Unopened
from keeper.config import parse_address
from keeper.margin.caller import MarginCaller
from keeper.risk import Risk
from keeper.units import Address

log = structlog.get_logger(__name__)


class Sending(Protocol):
    """What a chain's line shows of itself here."""

    @property
    def risk(self) -> Risk:
        """Return the chain's limits and breakers."""
        ...

    @property
    def breakers(self) -> BreakerWatch:
        """Return what writes their changes down."""
        ...

    @property
    def treasury(self) -> Treasury | None:
        """Return what sweeps profit; None where nothing is sent."""
        ...

    @property
    def margin(self) -> MarginCaller | None:
        """Return what makes margin calls; None where nothing is watched."""
        ...


ENCODED = 256
"""Positions encoded without letting the event loop go on."""
LONGEST_CANCEL = 3_600
"""Most seconds an operator may have cancels waited for."""


class Desk:
    """Do what an operator asks of the chains; `stopping` is set once the process is to end.

    `cancelling` is then for how many seconds everything in flight is cancelled, None when it is only
    followed; whoever does it tells `ended`. A chain that is still loading is paused in the journal,
    and as soon as it is there.
    """

    def __init__(
        self, chains: Iterable[str], lines: Mapping[str, Sending], unopened: Unopened
    ) -> None:
        self._chains = tuple(chains)
        self._lines = lines
        self._unopened = unopened
        self.stopping = asyncio.Event()
        self.cancelling: float | None = None
        self._ending: asyncio.Future[Ending] | None = None

    async def command(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one command and answer when it is on disk."""
        name, chain = asked.get("command"), asked.get("chain")
        if name == "stop" and asked.get("cancel"):
            return await self._stop_and_cancel(asked.get("seconds"))
        if name == "stop":
            log.warning("keeper.stopping", cause="keeper stop")
            self.stopping.set()
            return {
                "text": "stopping: what was sent is followed for a while, then the journal keeps it"
            }
        chosen = [each for each in self._chains if chain in {None, each}]
        if not chosen:
            return {"error": f"no chain is named {str(chain)[:40]!r}"}
        match name:
            case "pause":
                self.pause("keeper pause", chosen)
                text = f"paused: {', '.join(chosen)}"
            case "resume":
                closed, waiting = self._resume("keeper resume", chosen)
                closed |= {each: await later for each, later in waiting.items()}
                text = _resumed(closed)
            case "sweep":
                return self._sweep(chosen)
            case "margin":
                return await self._margin(chosen, asked)
            case "ack":
                return await self._acknowledge(chosen, asked.get("borrower"))
            case _:
                return {"error": f"there is no command {str(name)[:40]!r}"}
        lines = {each: self._lines[each] for each in chosen if each in self._lines}
        flushes = [line.breakers.flush() for line in lines.values()]
        await asyncio.gather(self._unopened.flush(), *flushes)
        still = {each: dict(line.risk.details()) for each, line in lines.items()}
        if name == "resume" and any(still.values()):
            text += "; still open: " + ", ".join(
                f"{each} {', '.join(names)}" for each, names in still.items() if names
            )
        return {"text": text, "open": still}

    async def _stop_and_cancel(self, seconds: object) -> dict[str, Any]:
        """Stop, and answer what became of everything in flight."""
        if not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_CANCEL:
            return {"error": f"cancels are waited for up to {LONGEST_CANCEL} s"}
        if self.stopping.is_set():
            return {"error": "the keeper is stopping already: what was sent is only followed"}
        log.warning("keeper.stopping", cause="keeper stop --cancel")
        self.cancelling = float(seconds)
        self._ending = asyncio.get_running_loop().create_future()
        self.stopping.set()
        ending = await self._ending
        absent = [name for name in self._chains if name not in self._lines]
        text = f"stopped: {ending.text}"
        if absent:
            text += f"; {', '.join(absent)} was not loaded: what is in flight there is as it was"
        return {"text": text, **ending.as_json(), "not_loaded": absent}

    def ended(self, ending: Ending) -> None:
        """Tell whoever asked what became of everything in flight."""
        counts = ending.as_json()
        (log.warning if ending.left else log.info)("keeper.cancelled", **counts)
        if self._ending is not None and not self._ending.done():
            self._ending.set_result(ending)

    def _sweep(self, chosen: Sequence[str]) -> dict[str, Any]:
        """Have profit swept as soon as nothing else is to be done."""
        lines = [self._lines[name] for name in chosen if name in self._lines]
        asked = [line.treasury for line in lines if line.treasury is not None]
        if not asked:
            return {"error": "the keeper runs dry, or is still loading: nothing is sent"}
        for treasury in asked:
            treasury.ask()
        return {"text": "asked the running keeper: it sweeps when nothing else is to be done"}

    async def _margin(self, chosen: Sequence[str], asked: Mapping[str, Any]) -> dict[str, Any]:
        """Answer how the watched positions stand, of each chain the worst if `limit` says how many."""
        limit, whole = asked.get("limit"), bool(asked.get("whole"))
        if limit is not None and not (isinstance(limit, int) and limit > 0):
            return {"error": "limit is how many positions are listed, one at least"}
        parts, total = list[bytes](), 0
        for name in chosen:
            caller = self._lines[name].margin if name in self._lines else None
            if caller is None:
                continue
            listed, count = await caller.listing(whole=whole, limit=limit)
            total += count
            for start in range(0, len(listed), ENCODED):
                # a large answer is made piece by piece: heads come in between
                parts.append(orjson.dumps(listed[start : start + ENCODED])[1:-1])
                await asyncio.sleep(0)
        positions = orjson.Fragment(b"[" + b",".join(parts) + b"]")
        return {"text": f"{total} positions", "positions": positions, "total": total}

    async def _acknowledge(self, chosen: Sequence[str], borrower: object) -> dict[str, Any]:
        """Let nobody be reminded of a borrower's calls until they get worse."""
        try:
            who = Address(parse_address(borrower))
        except ValueError as error:
            return {"error": f"{str(borrower)[:60]} {error}"}
        callers = [self._lines[name].margin for name in chosen if name in self._lines]
        count = sum([await caller.acknowledge(who) for caller in callers if caller])
        if not count:
            return {"error": f"no call to {borrower} is open"}
        return {"text": f"acknowledged: {count} open calls to {borrower}", "acknowledged": count}

    def pause(self, cause: str, chains: Sequence[str] | None = None) -> None:
        """Let chains send nothing more."""
        for name in self._chains if chains is None else chains:
            if name in self._lines:
                self._lines[name].risk.pause(cause)
                self._unopened.paused(name, cause)
            else:
                self._unopened.pause(name, cause)

    def resume(self, cause: str) -> None:
        """Close what an operator may close on every chain."""
        self._resume(cause, self._chains)

    def _resume(
        self, cause: str, chains: Sequence[str]
    ) -> tuple[dict[str, list[str]], dict[str, asyncio.Task[list[str]]]]:
        """Return which breakers were closed, by chain, and what is to tell it of those not open."""
        closed, later = dict[str, list[str]](), dict[str, asyncio.Task[list[str]]]()
        for name in chains:
            if name in self._lines:
                closed[name] = self._lines[name].risk.resume(cause)
            else:
                later[name] = self._unopened.resume(name, cause)
        return closed, later

    def opened(self, name: str) -> None:
        """Hold a chain to what was said while it was loading."""
        self._unopened.opened(name, self._lines[name].risk)


def _resumed(closed: Mapping[str, Sequence[str]]) -> str:
    parts = [f"{chain} ({', '.join(names)})" for chain, names in closed.items() if names]
    return f"resumed: {', '.join(parts)}" if parts else "nothing was paused"
