"""Runs strategies off the event loop, with a deadline, and settles who is asked once more."""

import asyncio
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from keeper.errors import PluginError, TransientError
from keeper.ports import Strategy
from keeper.types import AtRisk, Bid, Limits, Opportunity, Position, Quote, Reason, Skip, View
from keeper.units import Address

STUCK_ROUNDS = 20
"""Rounds a strategy may stay busy with one view before it is disabled."""

MOST_ANSWERS = 64
"""Answers a strategy may give for each position; one without end is switched off."""
LONGEST_DETAIL = 300
MOST_CALLS = 4
"""Calls on one position in one transaction that a strategy may ask for."""
_LARGEST = 2**128
_LATEST = 2**64
"""Seconds: a call to the contract has eight bytes for its deadline."""
_GAVE_WAY = "it gave way too often at this head, and others want it"
_NO_ANSWER = "the strategy gave no answer"

Answer = TypeVar("Answer")
Key = tuple[str, Address]
"""A position on its chain."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One configured strategy: its name and the markets it may see; None means all."""

    name: str
    strategy: Strategy
    markets: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """An opportunity with what its strategy allows."""

    opportunity: Opportunity
    limits: Limits


class Strategist:
    """Ask each strategy what to take and what to bid; one that fails is disabled, and told of.

    One that raises `TransientError` misses the head and is asked again. What it answers is held
    against the view: it chooses among what it was given, and names amounts, not objects of its own.
    """

    def __init__(self, seats: Sequence[Seat], on_fault: Callable[[PluginError], None]) -> None:
        self._on_fault = on_fault
        self._next: Sequence[Seat] | None = None
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._sit(seats)

    def exchange(self, seats: Sequence[Seat]) -> None:
        """Ask these from the next head on; the head being decided ends with those it began with."""
        self._next = seats

    def _sit(self, seats: Sequence[Seat]) -> None:
        self.close()
        self._seats = {seat.name: seat for seat in seats}
        self._busy: dict[str, tuple[asyncio.Future[Any], int]] = {}
        # One thread each: a strategy that does not return delays no other.
        self._threads = {
            name: ThreadPoolExecutor(1, thread_name_prefix=f"strategy-{name}")
            for name in self._seats
        }

    @property
    def enabled(self) -> tuple[str, ...]:
        """Return the names of the strategies still asked."""
        return tuple(self._seats)

    def close(self) -> None:
        """Let the threads go without waiting for a strategy that does not return."""
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    @property
    def is_exchanging(self) -> bool:
        """Whether strategies that were replaced may still be asked."""
        return self._next is not None

    async def select(self, view: View) -> tuple[list[Choice], list[Skip]]:
        """Return every strategy's choices, with its limits, and its skips."""
        if self._next is not None:
            self._sit(self._next)
            self._next = None
        seen = {name: _seen_by(seat, view) for name, seat in self._seats.items()}
        answers = await self._ask(
            view.deadline_ms,
            {name: _selection(self._seats[name], view) for name, view in seen.items()},
        )
        choices: list[Choice] = []
        skips: list[Skip] = []
        for name, answer in answers.items():
            if isinstance(answer, str):
                skips.extend(_late(name, risk.position, answer) for risk in seen[name].at_risk)
            else:
                choices.extend(answer[0])
                skips.extend(answer[1])
        return choices, skips

    async def bid(
        self, quotes: Sequence[Quote], view: View
    ) -> tuple[list[tuple[Quote, Bid]], list[Skip]]:
        """Return bids, best net first, and why there is none on other quotes.

        What a strategy bid before the deadline counts; of the rest it is told that it was late.
        """
        skips: list[Skip] = []
        mine: dict[str, list[Quote]] = {}
        for quote in quotes:
            mine.setdefault(quote.opportunity.strategy, []).append(quote)
        asked = {
            name: _Bidding(self._seats[name], wanted, view)
            for name, wanted in mine.items()
            if name in self._seats
        }
        answers = await self._ask(view.deadline_ms, asked)
        bids: list[tuple[Quote, Bid]] = []
        for name, bidding in asked.items():
            given = bidding.end() if name in self._seats else []
            for quote, answer in given:
                if isinstance(answer, Bid):
                    bids.append((quote, answer))
                else:
                    skips.append(answer)
            why = answers[name] or _NO_ANSWER
            skips.extend(
                _late(name, quote.opportunity.position, why) for quote in mine[name][len(given) :]
            )
        bids.sort(key=lambda pair: pair[0].net_usd, reverse=True)
        return bids, skips

    async def _ask(
        self, deadline_ms: int, questions: Mapping[str, Callable[[], Answer]]
    ) -> dict[str, Answer | str]:
        """Run one question per strategy in its thread; why not, for one that gave no answer."""
        loop = asyncio.get_running_loop()
        asked = {
            name: loop.run_in_executor(self._threads[name], question)
            for name, question in questions.items()
            if not self._is_stuck(name)
        }
        if asked:
            await asyncio.wait(asked.values(), timeout=deadline_ms / 1000)
        answers: dict[str, Answer | str] = dict.fromkeys(questions, _NO_ANSWER)
        for name, future in asked.items():
            if not future.done():
                self._busy[name] = (future, 1)
                continue
            error = future.exception()
            if error is None:
                answers[name] = future.result()
            elif isinstance(error, TransientError):
                answers[name] = f"{_NO_ANSWER}: {error}"[:LONGEST_DETAIL]
            else:
                self._disable(name, _described(error))
        return answers

    def _is_stuck(self, name: str) -> bool:
        """Say whether a strategy is still busy with an earlier question; disable it in the end."""
        if name not in self._busy:
            return False
        future, rounds = self._busy[name]
        if future.done():
            del self._busy[name]
            error = future.exception()
            if error is not None and not isinstance(error, TransientError):
                self._disable(name, _described(error))
                return True
            return False
        self._busy[name] = (future, rounds + 1)
        if rounds >= STUCK_ROUNDS:
            self._disable(name, f"did not return for {rounds} rounds")
        return True

    def _disable(self, name: str, why: str) -> None:
        self._seats.pop(name, None)
        self._busy.pop(name, None)
        self._on_fault(PluginError(name, why))


def _seen_by(seat: Seat, view: View) -> View:
    if seat.markets is None:
        return view
    markets = seat.markets
    return replace(
        view, at_risk=tuple(risk for risk in view.at_risk if risk.position.home in markets)
    )


def _selection(seat: Seat, view: View) -> Callable[[], tuple[list[Choice], list[Skip]]]:
    def select() -> tuple[list[Choice], list[Skip]]:
        given = {risk.position.key: risk for risk in view.at_risk}
        taken: set[tuple[Key, int]] = set()
        most = MOST_ANSWERS * len(given)
        choices: list[Choice] = []
        skips: list[Skip] = []
        for found in seat.strategy.select(view):
            if len(choices) + len(skips) >= most:
                raise ValueError(
                    f"select() gave more than {most} answers for {len(given)} positions"
                )
            if isinstance(found, Skip):
                if (found.market, found.borrower) not in given:
                    raise ValueError("select() skipped a position it was not given")
                skips.append(_own(seat.name, found))
            else:
                opportunity = _chosen(seat.name, found, given)
                for pair in opportunity.pairs:
                    # each is sized, and counts as wanted
                    if (opportunity.key, id(pair)) in taken:
                        raise ValueError("select() chose a pair of a position twice")
                    taken.add((opportunity.key, id(pair)))
                limits = seat.strategy.limits(opportunity, view)
                choices.append(Choice(opportunity, _allowed(limits)))
        return choices, skips

    return select


def _chosen(
    name: str, found: Opportunity, given: Mapping[tuple[str, Address], AtRisk]
) -> Opportunity:
    """Return what was chosen, made anew of what the strategy was given."""
    if not isinstance(found, Opportunity):
        raise TypeError(f"select() gave {type(found).__name__}, neither Opportunity nor Skip")
    risk = given.get(found.key)
    if risk is None:
        raise ValueError("select() chose a position it was not given")
    offered = {id(pair) for pair in risk.pairs}
    if not all(id(pair) in offered for pair in found.pairs):
        raise ValueError("select() chose a pair it was not given")
    return Opportunity(risk.position, tuple(found.pairs), risk.cause, name)


def _allowed(limits: Limits) -> Limits:
    if not isinstance(limits, Limits):
        raise TypeError(f"limits() returned {type(limits).__name__}, not Limits")
    _amount("minimum_profit", limits.minimum_profit)
    if limits.largest_repay is not None:
        _amount("largest_repay", limits.largest_repay)
    if limits.venues is not None and not isinstance(limits.venues, frozenset):
        raise TypeError("limits() returned venues that are no frozenset")
    if not isinstance(limits.whole, bool):
        raise TypeError("limits() returned a whole that is no bool")
    if type(limits.calls) is not int or not 1 <= limits.calls <= MOST_CALLS:
        raise ValueError(f"limits() returned calls that are no number from 1 to {MOST_CALLS}")
    return limits


class _Bidding:
    """One strategy's bids on quotes, in their order; those made so far can be taken at any time."""

    def __init__(self, seat: Seat, quotes: Sequence[Quote], view: View) -> None:
        self._seat = seat
        self._quotes = quotes
        self._view = view
        self._given: list[tuple[Quote, Bid | Skip]] = []
        self._ended = False

    def __call__(self) -> None:
        for quote in self._quotes:
            if self._ended:
                return
            answer = self._seat.strategy.bid(quote, self._view)
            self._given.append((quote, _offered(self._seat.name, quote, answer)))

    def end(self) -> list[tuple[Quote, Bid | Skip]]:
        """Return the answers given, those on the first quotes, and ask for no more."""
        self._ended = True
        return list(self._given)


def _offered(name: str, quote: Quote, answer: Bid | Skip) -> Bid | Skip:
    """Return an answer to a quote if it makes sense."""
    if isinstance(answer, Skip):
        if (answer.market, answer.borrower) != quote.opportunity.key:
            raise ValueError("bid() skipped a position it was not asked about")
        return _own(name, answer)
    if not isinstance(answer, Bid):
        raise TypeError(f"bid() returned {type(answer).__name__}, neither Bid nor Skip")
    for field in ("priority_fee", "max_fee", "tip"):
        _amount(field, getattr(answer, field))
    _amount("deadline", answer.deadline, _LATEST)
    return answer


def _amount(name: str, value: int, largest: int = _LARGEST) -> None:
    """Refuse what is no amount: a negative tip would stand for profit that nobody makes."""
    if type(value) is not int:
        raise TypeError(f"{name} is {type(value).__name__}, not int")
    if not 0 <= value < largest:
        raise ValueError(f"{name} is {'negative' if value < 0 else 'more than any can be'}")


def _own(name: str, skip: Skip) -> Skip:
    if not isinstance(skip.reason, Reason):
        raise TypeError(f"a Skip's reason is {type(skip.reason).__name__}, not Reason")
    return replace(skip, strategy=name, detail=str(skip.detail)[:LONGEST_DETAIL])


def next_round(
    choices: Sequence[Choice],
    quotes: Iterable[Quote],
    skips: Iterable[Skip],
    planned: Container[Key],
    *,
    last: bool = False,
) -> tuple[list[Choice], list[Skip]] | None:
    """Return what to decide on once more and the skips that stand; None when all is decided.

    A strategy outbids others by its quote. Where that comes to nothing, as when it does not bid, or
    bids more than pays, it gives way to them; and several calls on a position give way to a single
    one. Who did not answer in time is not asked again for this head. With `last`, whoever still gives
    way does so for good: on all that others want, and to single calls.
    """
    outbid: dict[Key, set[str]] = {}
    fallen: dict[tuple[str, Key], list[Skip]] = {}
    for skip in skips:
        key = (skip.market, skip.borrower)
        if skip.reason is Reason.OUTBID:
            outbid.setdefault(key, set()).add(skip.strategy)
        else:
            fallen.setdefault((skip.strategy, key), []).append(skip)
    torn = {quote.opportunity.key for quote in quotes if quote.parts > 1}
    left: list[Choice] = []
    stand: list[Skip] = []
    gave: dict[str, None] = {}
    for choice in choices:
        key, name = choice.opportunity.key, choice.opportunity.strategy
        why = fallen.get((name, key), ())
        yields = bool(outbid.get(key, set()) - {name})
        if not why or key in planned:
            left.append(choice)
        elif any(skip.reason is Reason.TIMEOUT for skip in why):
            if yields:
                gave[name] = None
            stand += why
        elif key in torn and choice.limits.calls > 1:
            gave[name] = None
            left.append(_single(choice))
        elif yields:
            gave[name] = None
            stand += why
        else:
            left.append(choice)
    for name in gave if last else ():
        left, more = _withdrawn(name, left)
        stand += more
    return (left, stand) if gave else None


def _withdrawn(name: str, choices: Sequence[Choice]) -> tuple[list[Choice], list[Skip]]:
    """Return choices of which a strategy keeps what nobody else wants, and its skips on the rest."""
    wanted = {choice.opportunity.key for choice in choices if choice.opportunity.strategy != name}
    left: list[Choice] = []
    skips: list[Skip] = []
    for choice in choices:
        opportunity = choice.opportunity
        if opportunity.strategy != name:
            left.append(choice)
        elif opportunity.key in wanted:
            skips.append(_skip(name, opportunity.position, Reason.OUTBID, _GAVE_WAY))
        else:
            left.append(_single(choice))
    return left, skips


def _single(choice: Choice) -> Choice:
    return replace(choice, limits=replace(choice.limits, calls=1))


def _late(name: str, position: Position, why: str) -> Skip:
    return _skip(name, position, Reason.TIMEOUT, why)


def _described(error: BaseException) -> str:
    if isinstance(error, PluginError):
        return str(error).removeprefix(f"{error.plugin}: ")
    return f"{type(error).__name__}: {error}"


def _skip(strategy: str, position: Position, reason: Reason, detail: str) -> Skip:
    return Skip(position.market, position.protocol, position.borrower, reason, detail, strategy)
