"""Load the pools that new tokens add to a venue, while the venue goes on with those it has."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, Self, runtime_checkable

from keeper.book.book import Book
from keeper.book.rejoin import rebuild
from keeper.chain.blocks import Blocks
from keeper.errors import ConfigError, TransientError
from keeper.ports import Reader, Source
from keeper.types import Head
from keeper.units import Address

REFUSALS = 3
"""Answers in a row that say a search cannot succeed, from which on that is believed until a restart."""


@runtime_checkable
class Widening(Source, Protocol):
    """A venue that can be for more tokens later than at first."""

    tokens: frozenset[Address]

    def beside(self, tokens: Iterable[Address]) -> Self:
        """Return a source of just what more tokens would add."""
        ...

    def absorb(self, more: Self) -> None:
        """Take over what was made by `beside` and stands at the same block."""
        ...


@runtime_checkable
class Searching(Widening, Protocol):
    """A venue whose new pools no log tells it of: what was made since a snapshot is to be looked for."""

    @property
    def is_searching(self) -> bool:
        """Tell whether there is anywhere to look: named pools are all there are."""
        ...


async def widen(
    book: Book, part: str, tokens: Iterable[Address], reader: Reader, blocks: Blocks
) -> Head:
    """Load what tokens add to a venue at the book's head, catch up, and have the venue take it over.

    Returns the head it was loaded at. Raises `TransientError` when that was reorganised out, a read
    failed or the venue stopped meanwhile: start again.
    """
    venue = book.sources[part]
    assert isinstance(venue, Widening)
    stops, held = book.parts.stops(part), venue.tokens
    more, name = venue.beside(tokens), f"listing/{part}"
    into = None
    book.parts.attach(name, more)
    try:
        head = await rebuild(book, name, reader, blocks)
        # Nothing is awaited from here on: both stand at the book's head.
        if (
            stops != book.parts.stops(part)
            or not book.parts.is_folded(part)
            or venue.tokens != held
        ):
            raise TransientError(f"{part} was loaded anew meanwhile")
        venue.absorb(more)
        into = part
    finally:
        book.parts.detach(name, into)
    return head


def missing(book: Book) -> Iterable[tuple[str, list[Address]]]:
    """Yield each venue that is not for all tokens the markets list, and the tokens it is not for."""
    listed = book.tokens().keys()
    for part, venue in book.sources.items():
        if not isinstance(venue, Widening) or not book.parts.is_folded(part):
            continue
        if more := sorted(listed - venue.tokens):
            yield part, more


class Widener:
    """Widen each venue once a market lists a token it is not for, with pauses that double while it fails.

    And once after a start from a snapshot, where new pools have to be looked for. `widened` is told of
    the venue, the tokens (none then) and the head, `failed` of an attempt and its pause, None where a
    search is given up: the settings name what cannot be searched.
    """

    def __init__(
        self,
        book: Book,
        reader: Reader,
        blocks: Blocks,
        widened: Callable[[str, Sequence[Address], Head], None],
        failed: Callable[[str, Exception, float | None], None],
        *,
        first_pause: float = 1.0,
        longest_pause: float = 600.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._book = book
        self._reader = reader
        self._blocks = blocks
        self._widened = widened
        self._failed = failed
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._sleep = sleep
        self._due = asyncio.Event()
        self._unsearched: set[str] = set()

    def search(self) -> None:
        """Have new pools looked for in every venue that no log tells of them."""
        self._unsearched = {
            part
            for part, venue in self._book.sources.items()
            if isinstance(venue, Searching) and venue.is_searching
        }
        self.look()

    def look(self) -> None:
        """See whether a market has a token that a venue is not for, or a search is left."""
        if self._wanted():
            self._due.set()

    def _wanted(self) -> dict[str, list[Address]]:
        """Return the venues to widen, and each one's new tokens."""
        left = (part for part in self._unsearched if self._book.parts.is_folded(part))
        return {part: list[Address]() for part in left} | dict(missing(self._book))

    async def run(self) -> None:
        """Widen whenever it is due, each venue on its own, until cancelled."""
        widening: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._due.wait()
                self._due.clear()
                for part in self._wanted():
                    if part not in widening or widening[part].done():
                        widening[part] = tasks.create_task(self._widen(part))

    async def _widen(self, part: str) -> None:
        pause, refused = self._first_pause, 0
        while (tokens := self._wanted().get(part)) is not None:
            try:
                head = await widen(self._book, part, tokens, self._reader, self._blocks)
            except Exception as error:  # noqa: BLE001 - told, and tried again
                refused = refused + 1 if isinstance(error, ConfigError) and not tokens else 0
                if refused >= REFUSALS:
                    self._unsearched.discard(part)
                    self._failed(part, error, None)
                    continue
                self._failed(part, error, pause)
                await self._sleep(pause)
                pause = min(2 * pause, self._longest_pause)
            else:
                self._unsearched.discard(part)
                self._widened(part, tokens, head)
                return
