"""Hand transactions to every relay at once, again when a term ends, and keep who holds what."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from keeper.errors import RpcError, TransientError
from keeper.execution.answer import Answer, classify
from keeper.execution.relays.scores import Handed, Score, Scores
from keeper.fees import TOGETHER, UNKNOWN_RELAY
from keeper.ports import Relay
from keeper.types import Signed
from keeper.units import Hash

T = TypeVar("T")

REMEMBERED = 64
"""Transactions whose holders are kept after their end: a reorg may have them included anew."""


@dataclass(frozen=True, slots=True)
class Route:
    """A relay and for how many blocks it is given a transaction at a time.

    One that `backruns` can put it behind a pending transaction that is not ours; to one that takes it
    `bundled`, what stands before it is a part of what it is given. `warm` opens a connection to it
    ahead, where that takes time.
    """

    relay: Relay
    blocks: int
    backruns: bool = False
    bundled: bool = False
    warm: Callable[[], Coroutine[Any, Any, None]] | None = None


@dataclass(slots=True)
class Term:
    """The blocks a relay was given a transaction for so far, and what went before it in its bundle."""

    first: int
    last: int
    before: tuple[Hash, ...] = ()


class PrivateFlow:
    """Keep transactions with relays; of one nothing is ever repeated within the blocks it was given.

    But for a bundle behind a transaction that was mined or replaced: that is made anew at once.

    `public_after` is how many blocks later a transaction may be replaced by a public one, 0 for never.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        scores: Scores,
        public_after: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._routes = {route.relay.name: route for route in routes}
        self._scores = scores
        self._public_after = public_after
        self._monotonic = monotonic
        self._terms: dict[Hash, dict[str, Term]] = {}
        self._past: dict[Hash, dict[str, Term]] = {}
        self._asking: set[asyncio.Task[Any]] = set()

    @property
    def scores(self) -> Mapping[str, Score]:
        """Return the relays' scores, best first."""
        return {relay: self._scores.of(relay) for relay in self._scores.best_first()}

    @property
    def backruns(self) -> bool:
        """Whether a relay can put a transaction behind a pending one that is not ours."""
        return any(route.backruns for route in self._routes.values())

    def is_due(self, made: int, head: int) -> bool:
        """Whether a transaction made at one head may become public at another."""
        return self._public_after > 0 and head - made >= self._public_after

    def until(self, tx_hash: Hash) -> int:
        """Return the last block any relay holds a transaction for; 0 when none is known to."""
        terms = self._terms.get(tx_hash, {})
        return max((term.last for term in terms.values()), default=0)

    def holders(self, tx_hash: Hash, block: int | None = None) -> str:
        """Return who held a transaction (for a block), as `BidOutcome` names them.

        Those are told too that held it before it ended and a reorg brought it back.
        """
        found = {
            relay
            for terms in (self._past.get(tx_hash, {}), self._terms.get(tx_hash, {}))
            for relay, term in terms.items()
            if block is None or term.first <= block <= term.last
        }
        return TOGETHER.join(sorted(found)) or UNKNOWN_RELAY

    def wants(
        self, tx_hash: Hash, head: int, before: Sequence[Signed] = (), *, behind: bool = False
    ) -> bool:
        """Whether a relay's blocks are over at a head; only those that back-run if it is `behind`."""
        return any(
            self._is_over(tx_hash, relay, head, before)
            for relay in self._scores.active()
            if self._routes[relay].backruns or not behind
        )

    def warm(self) -> None:
        """Have connections ready for what is about to be proven, without waiting for them."""
        for route in self._routes.values():
            if route.warm is not None:
                self._begin(route.warm())

    async def hand_over(
        self, signed: Signed, before: Sequence[Signed], head: int
    ) -> tuple[Answer, str]:
        """Give the bytes to all whose blocks are over, for the blocks after a head.

        `before` are the transactions on the nonces before it. Accepted as soon as one took it;
        unknown when none did and one may have; refused when all refused, with their words.
        """
        waiting = self._offer(signed, before, head)
        told: list[tuple[Handed, str]] = []
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            told.extend(task.result() for task in done)
            if any(how is Handed.TAKEN for how, _ in told):
                return Answer.ACCEPTED, ""
        words = "; ".join(text for _, text in told)
        unclear = any(how is Handed.UNCLEAR for how, _ in told)
        if unclear or self.until(signed.hash) > head or self._public_after:
            return Answer.UNKNOWN, words
        self._terms.pop(signed.hash, None)
        return Answer.RELAYS, words

    def keep(self, signed: Signed, before: Sequence[Signed], head: int) -> None:
        """Do the same without waiting: what comes of it shows in the blocks."""
        self._offer(signed, before, head)

    def forget(self, signed: Signed, head: int) -> None:
        """Ask all that hold a transaction to forget it, without waiting: none promises it."""
        for name, term in self._terms.get(signed.hash, {}).items():
            if term.last > head:
                relay = self._routes[name].relay
                self._begin(_suppressed(relay.cancel(signed, head + 1, term.last)))

    def ended(self, tx_hash: Hash, block: int | None) -> None:
        """Score those who held a transaction: included in a block, or None when it never was."""
        terms = self._terms.pop(tx_hash, {})
        if terms:
            self._past[tx_hash] = self._past.pop(tx_hash, {}) | terms
        while len(self._past) > REMEMBERED:
            del self._past[next(iter(self._past))]
        held = [] if block is None else [n for n, t in terms.items() if t.first <= block <= t.last]
        for relay in terms:
            self._scores.ended(relay, included=relay in held, holders=max(len(held), 1))

    async def close(self) -> None:
        """Wait for no more answers and let go of the connections."""
        for task in list(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        for route in self._routes.values():
            await route.relay.close()

    def _offer(
        self, signed: Signed, before: Sequence[Signed], head: int
    ) -> set[asyncio.Task[tuple[Handed, str]]]:
        asked = set()
        behind = bool(signed.plan.after)
        for relay in self._scores.best_first() if behind else self._scores.choose():
            route = self._routes[relay]
            is_over = self._is_over(signed.hash, relay, head, before)
            if not is_over or (behind and not route.backruns):
                continue
            # on the books before the request leaves: whatever is answered, it may arrive
            terms = self._terms.setdefault(signed.hash, {})
            earlier = terms.get(relay)
            terms[relay] = Term(
                earlier.first if earlier else head + 1, head + route.blocks, _hashes(before)
            )
            asked.add(self._begin(self._give(route, signed, before, head, terms, earlier)))
        return asked

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return task

    def _is_over(self, tx_hash: Hash, relay: str, head: int, before: Sequence[Signed]) -> bool:
        """Whether what a relay was given is of no use any more.

        A bundle is not once what stood before it was mined or replaced: its first nonce is used.
        """
        term = self._terms.get(tx_hash, {}).get(relay)
        if term is None or term.last <= head:
            return True
        return self._routes[relay].bundled and term.before != _hashes(before)

    async def _give(
        self,
        route: Route,
        signed: Signed,
        before: Sequence[Signed],
        head: int,
        terms: dict[str, Term],
        earlier: Term | None,
    ) -> tuple[Handed, str]:
        relay = route.relay
        how, words = Handed.TAKEN, ""
        started = self._monotonic()
        try:
            await relay.send(signed, before, head + 1, head + route.blocks)
        except RpcError as error:
            if classify(error) is not Answer.ACCEPTED:
                how, words = Handed.REFUSED, f"{relay.name}: {error.message}"
                if earlier is None:
                    terms.pop(relay.name, None)
                else:
                    terms[relay.name] = earlier
        except TransientError as error:
            how, words = Handed.UNCLEAR, f"{relay.name}: {error}"
        self._scores.handed(relay.name, how, self._monotonic() - started, words)
        return how, words


def _hashes(transactions: Sequence[Signed]) -> tuple[Hash, ...]:
    """Return the hashes of transactions, in order."""
    return tuple(each.hash for each in transactions)


async def _suppressed(work: Coroutine[Any, Any, None]) -> None:
    with suppress(TransientError):
        await work
