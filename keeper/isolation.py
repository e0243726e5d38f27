"""A strategy in Python that is not the keeper's own runs in a process of its own.

There it may raise, loop, block or end the process: a head goes on without it, and it is started
again. It has neither the key nor the environment, and what comes back is data: places in what it was
given, and amounts. `python -m keeper.isolation` is that process.
"""

import base64
import faulthandler
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final

from keeper import PLUGIN_API
from keeper.child import Child
from keeper.config import Settings, StrategyTable
from keeper.errors import ConfigError, PluginError, TransientError
from keeper.handover import pack, unpack
from keeper.plugins import (
    NamedStrategy,
    build_strategy,
    is_shipped,
    list_plugins,
    load_protocol,
    load_strategy,
    refuse_late,
)
from keeper.ports import Strategy
from keeper.types import AtRisk, Bid, Limits, Opportunity, Position, Quote, Reason, Skip, View
from keeper.units import Address

MARGIN: Final = 0.85
"""How much of a head's deadline the strategy has; the rest is for handing over."""
HUNG_SECONDS: Final = 60.0
"""After so long on one question the process ends itself, should nobody be there to end it."""
MISSES: Final = 2
"""Questions in a row without an answer after which it is started again: it uses a core meanwhile."""
Chosen = tuple[str, Address, tuple[int, ...]]
"""A position and the pairs chosen of it, objects of a view that is held: each choice has its limits."""
COMMAND: Final = (sys.executable, "-P", "-m", "keeper.isolation")


class Isolated:
    """Hand the view to a strategy in another process, and take its choices."""

    def __init__(self, name: str, table: StrategyTable, protocols: Iterable[str] = ()) -> None:
        self._name = name
        self._told = {"strategy": _packed((name, table, sorted(protocols)))}
        self._children: dict[str, Child] = {}
        self._limits: dict[str, dict[Chosen, Limits]] = {}
        self._held: dict[str, tuple[int | None, View]] = {}
        self._lock = threading.Lock()
        self.deadline_seconds: int | None = None

    def open(self, chain: str) -> None:
        """Start the process for one chain; raise `ConfigError` with what the strategy is refused for."""
        child = self._child(chain)
        if not child.open():
            raise ConfigError(child.why or "the strategy does not start in time")
        if "error" in child.ready:
            raise ConfigError(str(child.ready["error"]))
        seconds = child.ready.get("deadline_seconds")
        self.deadline_seconds = seconds if type(seconds) is int else None

    def close(self) -> None:
        """End the process of every chain."""
        for child in self._children.values():
            child.close()

    def select(self, view: View) -> Iterator[Opportunity | Skip]:
        """Return what the strategy takes and refuses; raise `TransientError` without an answer."""
        answer = self._ask(view, {"type": "select", "view": self._handed(view)})
        found: list[Opportunity | Skip] = []
        limits: dict[Chosen, Limits] = {}
        try:
            for index, places, bounds in answer["take"]:
                risk = view.at_risk[index]
                pairs = tuple(risk.pairs[place] for place in places)
                opportunity = Opportunity(risk.position, pairs, risk.cause)
                limits[_chosen(opportunity)] = _limits(*bounds)
                found.append(opportunity)
            for index, reason, detail in answer["skip"]:
                found.append(_skip(view.at_risk[index].position, reason, detail))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            self._child(view.chain).refuse(f"its answer makes no sense: {error!r}")
        self._limits[view.chain] = limits
        return iter(found)

    def limits(self, opportunity: Opportunity, view: View) -> Limits:
        """Return what the strategy set when it took these pairs of this position."""
        return self._limits[view.chain][_chosen(opportunity)]

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        """Return what the strategy pays; raise `TransientError` without an answer."""
        content = {"type": "bid", "view": self._handed(view), "quote": _packed(quote)}
        answer = self._ask(view, content)
        try:
            if answer["skip"] is not None:
                return _skip(quote.opportunity.position, *answer["skip"])
            return Bid(*answer["bid"])
        except (KeyError, TypeError, ValueError) as error:
            self._child(view.chain).refuse(f"its answer makes no sense: {error!r}")

    def _ask(self, view: View, content: Mapping[str, Any]) -> Mapping[str, Any]:
        child = self._child(view.chain)
        answer = child.ask(content, view.deadline_ms * MARGIN / 1000)
        self._held[view.chain] = child.pid, view
        if "error" in answer:
            raise PluginError(self._name, str(answer["error"]))
        if "silent" in answer:
            raise TransientError(str(answer["silent"]))
        return answer

    def _handed(self, view: View) -> str | None:
        """Return the view, None when the process holds it already."""
        pid, held = self._held.get(view.chain, (None, None))
        is_held = pid is not None and held is view and pid == self._child(view.chain).pid
        return None if is_held else _packed(view)

    def _child(self, chain: str) -> Child:
        with self._lock:
            child = self._children.get(chain)
            if child is None:
                environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
                child = Child(
                    f"{self._name} ({chain})",
                    COMMAND,
                    PLUGIN_API,
                    chain,
                    ["PYTHONPATH"],
                    told=self._told,
                    environ=environ,
                    misses=MISSES,
                )
                self._children[chain] = child
            return child


def open_strategies(
    settings: Settings, blame: Callable[[str], str] = lambda _: "settings"
) -> list[NamedStrategy]:
    """Return the configured strategies ready to be asked, those of others in their own processes.

    It blocks until they are. Raises `ConfigError` for anything amiss.
    """
    if not settings.strategies:
        raise ConfigError("no strategy is configured", "add [strategies.profitability]")
    protocols = {m.protocol for c in settings.chains.values() for m in c.markets.values()}
    opened: list[NamedStrategy] = []
    try:
        for name, table in settings.strategies.items():
            strategy: Strategy = (
                load_strategy(name, table, settings, blame)
                if is_shipped(table.use) or not _is_there(table.use)
                else Isolated(name, table, protocols)
            )
            opened.append(NamedStrategy(name, strategy, table.chains, table.protocols))
            where = f"{blame(f'strategies.{name}.use')}: strategies.{name}"
            for chain in settings.chains:
                if chain in (table.chains or {chain}):
                    _open(strategy, chain, where)
            if isinstance(strategy, Isolated):
                refuse_late(name, table, settings, strategy.deadline_seconds, blame)
    except BaseException:
        close_strategies(opened)
        raise
    return opened


def close_strategies(strategies: Sequence[NamedStrategy]) -> None:
    """End the programs of strategies that have any."""
    for named in strategies:
        close = getattr(named.strategy, "close", None)
        if close is not None:
            close()


def _is_there(use: str) -> bool:
    """Say whether there is anything to load: a name nobody knows is told of without a process."""
    return ".py:" in use or any(
        plugin.kind == "strategy" and plugin.name == use for plugin in list_plugins()
    )


def _open(strategy: Strategy, chain: str, where: str) -> None:
    opening = getattr(strategy, "open", None)
    if opening is None:
        return
    try:
        opening(chain)
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if "strategies." in text else f"{where}: {text}") from None


def _packed(value: Any) -> str:
    return base64.b64encode(pack(value)).decode()


def _unpacked(text: str) -> Any:
    # only ever what the keeper wrote: the other way there is no pickle
    return unpack(base64.b64decode(text))


def _chosen(opportunity: Opportunity) -> Chosen:
    return *opportunity.key, tuple(map(id, opportunity.pairs))


def _limits(minimum: Any, largest: Any, venues: Any, whole: Any, calls: Any) -> Limits:
    return Limits(minimum, largest, None if venues is None else frozenset(venues), whole, calls)


def _skip(position: Position, reason: str, detail: str) -> Skip:
    return Skip(
        position.market, position.protocol, position.borrower, Reason(reason), str(detail)[:300]
    )


class Host:
    """The other side: one strategy, and the view it holds."""

    def __init__(self) -> None:
        self._strategy: Strategy
        self._view: View

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the strategy says to one request, or the error it raised."""
        try:
            match request["type"]:
                case "hello":
                    return self._begin(request)
                case "select":
                    self._look(request)
                    return self._select()
                case _:
                    self._look(request)
                    return self._bid(_unpacked(request["quote"]))
        except TransientError as error:
            return {"silent": str(error)}
        except BaseException as error:  # noqa: BLE001 - whatever a strategy raises is told
            return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}

    def _begin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        name, table, protocols = _unpacked(request["strategy"])
        told: dict[str, Any] = {"api": request["api"]}
        try:
            for protocol in protocols:
                load_protocol(protocol)  # its terms are in every view: the first should not wait
            self._strategy, told["deadline_seconds"] = build_strategy(name, table)
        except ConfigError as error:
            told["error"] = str(error)
        return told

    def _look(self, request: Mapping[str, Any]) -> None:
        if request["view"] is not None:
            self._view = _unpacked(request["view"])

    def _select(self) -> dict[str, Any]:
        places = {risk.position.key: place for place, risk in enumerate(self._view.at_risk)}
        take: list[Any] = []
        skip: list[Any] = []
        for found in self._strategy.select(self._view):
            if isinstance(found, Skip):
                place = places.get((found.market, found.borrower))
                if place is None:
                    raise ValueError("select() skipped a position it was not given")
                skip.append((place, found.reason, found.detail))
                continue
            if not isinstance(found, Opportunity):
                raise TypeError(
                    f"select() gave {type(found).__name__}, neither Opportunity nor Skip"
                )
            place = places.get(found.key)
            if place is None:
                raise ValueError("select() chose a position it was not given")
            limits = self._strategy.limits(found, self._view)
            if not isinstance(limits, Limits):
                raise TypeError(f"limits() returned {type(limits).__name__}, not Limits")
            venues = None if limits.venues is None else sorted(limits.venues)
            least, most = limits.minimum_profit, limits.largest_repay
            bounds = least, most, venues, limits.whole, limits.calls
            take.append((place, _places(found, self._view.at_risk[place]), bounds))
        return {"take": take, "skip": skip}

    def _bid(self, quote: Quote) -> dict[str, Any]:
        answer = self._strategy.bid(quote, self._view)
        if isinstance(answer, Skip):
            return {"bid": None, "skip": (Reason(answer.reason), answer.detail)}
        if not isinstance(answer, Bid):
            raise TypeError(f"bid() returned {type(answer).__name__}, neither Bid nor Skip")
        return {
            "bid": (answer.priority_fee, answer.max_fee, answer.deadline, answer.tip),
            "skip": None,
        }


def _places(found: Opportunity, risk: AtRisk) -> list[int]:
    known = {id(pair): place for place, pair in enumerate(risk.pairs)}
    try:
        return [known[id(pair)] for pair in found.pairs]
    except KeyError:
        raise ValueError("select() chose a pair it was not given") from None


def serve(requests: Iterable[bytes], answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    host = Host()
    for line in requests:
        faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True)
        request = json.loads(line)
        answer = host.answer(request)
        try:
            text = json.dumps({"id": request["id"], **answer}, default=repr)
        except ValueError as error:
            text = json.dumps({"id": request["id"], "error": f"{type(error).__name__}: {error}"})
        answers.write(text.encode() + b"\n")
        answers.flush()
        faulthandler.cancel_dump_traceback_later()


def main() -> None:
    """Serve on the standard streams; what the strategy prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    serve(requests, answers)


if __name__ == "__main__":
    main()
