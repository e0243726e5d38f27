"""A chain's book brought along by a tape instead of a node."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b

import orjson
import structlog

from keeper.app.lenders import Lenders, make_lenders
from keeper.app.upkeep import STOPPED
from keeper.app.watched import Watched
from keeper.book.book import Book, Reads as Wanted
from keeper.book.faults import Fault
from keeper.book.widen import missing, widen
from keeper.chain.blocks import Blocks
from keeper.chain.reader import ChainReader
from keeper.config import Chain, Settings
from keeper.errors import ConfigError, KeeperError, TransientError
from keeper.tape.asking import TapedRpc
from keeper.tape.records import Asked, Block, Reads, Record, State, Taken, Title, Undone
from keeper.types import Call, CallResult, Head
from keeper.units import to_hex

log = structlog.get_logger(__name__)

_UNREAD = CallResult(False, b"")
Moment = Block | Reads | Taken
"""What a tape comes to: before a block is folded, once a head can be decided on, and who was taken."""


def title_of(name: str, table: Chain) -> Title:
    """Return what a tape of a chain says of itself: public facts alone."""
    return Title(
        name,
        table.chain_id,
        table.block_time,
        "" if table.contract is None else to_hex(table.contract),
        {key: [market.protocol, _digest(market.options)] for key, market in table.markets.items()},
        {key: _digest(venue.model_dump(mode="json")) for key, venue in table.venues.items()},
    )


def _digest(value: object) -> str:
    # what a venue is told may hold a key, so a tape tells only whether it is the same
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=sorted)
    return blake2b(text, digest_size=16).hexdigest()


def chain_of(title: Title, settings: Settings, where: str) -> tuple[str, Chain]:
    """Return the configured chain a tape is of; raise `ConfigError` when it is of another."""
    found = [each for each in settings.chains.items() if each[1].chain_id == title.chain_id]
    if not found:
        known = ", ".join(f"{n} ({c.chain_id})" for n, c in sorted(settings.chains.items()))
        raise ConfigError(
            f"{where}: the tape is of chain {title.chain_id}, the settings have {known or 'none'}",
            "name the settings it was recorded with: -c FILE",
        )
    name, table = found[0]
    ours = title_of(name, table)
    for kind, held, wanted in (
        ("market", title.markets, ours.markets),
        ("venue", title.venues, ours.venues),
    ):
        for key, value in wanted.items():
            if held.get(key) != value:
                raise ConfigError(
                    f"{where}: the tape was recorded {'without' if key not in held else 'with other'}"
                    f" settings of {kind} {key}",
                    f"leave chains.{name}.{kind}s.{key} as it was, or record anew",
                )
    if title.venues and not ours.venues:
        raise ConfigError(f"{where}: no venue is configured", "name those of the tape")
    return name, table


@dataclass(slots=True)
class Taped:
    """A book at the head its tape has come to, and what answers in a node's place."""

    name: str
    table: Chain
    watched: Watched
    book: Book
    reader: ChainReader
    rpc: TapedRpc
    records: Iterator[Record]
    where: str
    lenders: Lenders | None
    wanted: Wanted = field(default_factory=partial(Wanted, (), ()))
    held: Mapping[Call, CallResult] = field(default_factory=dict)

    @classmethod
    async def open(
        cls, name: str, table: Chain, records: Iterable[Record], where: str = "tape"
    ) -> "Taped":
        """Stand a book at the state a tape begins with."""
        rpc, coming = TapedRpc(), iter(records)
        for record in coming:
            match record:
                case Title():
                    continue
                case Asked():
                    rpc.add(record)
                case State():
                    break
                case _:
                    raise ConfigError(f"{where}: the tape begins without a state", "record it anew")
        else:
            raise ConfigError(f"{where}: the tape holds no state yet", "record for longer")
        reader = ChainReader(rpc, table.multicall)
        try:
            watched = await Watched.discover(reader, name, table)
            await watched.restore(lambda source: record.pages[source], record.head, record.head)
        except (KeeperError, KeyError) as error:
            raise ConfigError(
                f"{where}: its state cannot be used ({error})", "record it anew"
            ) from None
        book = Book(
            name,
            list(watched.markets.values()),
            list(watched.venues.values()),
            watched.native,
            partial(_tell_stopped, name),
        )
        book.stand_at(record.head)
        await book.load()
        lenders = make_lenders(name, table, watched, reader)
        return cls(name, table, watched, book, reader, rpc, coming, where, lenders)

    @property
    def head(self) -> Head:
        """Return the head the book stands at."""
        head = self.book.head
        assert head is not None, "it was stood at the tape's state"
        return head

    def answers(self, more: Sequence[Call] = ()) -> tuple[Wanted, list[CallResult]]:
        """Return what the book wanted to read at this head, and the answers, those to `more` last.

        Of these what the tape lacks was not read. Raises `TransientError` when it lacks one of the others.
        """
        try:
            found = [self.held[call] for call in self.wanted.calls]
        except KeyError:
            raise TransientError("the tape lacks a read of this head") from None
        return self.wanted, found + [self.held.get(call, _UNREAD) for call in more]

    async def moments(self) -> AsyncIterator[Moment]:
        """Go on record by record, yielding those somebody may act at.

        A `Block` is yielded before it is folded, `Reads` once the book has heard them and a decision
        can be made. Nothing behind the record yielded was looked at.
        """
        for record in self.records:
            match record:
                case Asked():
                    self.rpc.add(record)
                case Block():
                    yield record
                    self.rpc.forget()
                    self._fold(record)
                case Undone():
                    self.book.undo()
                case Reads():
                    await self._widen()
                    self._hear(record)
                    yield record
                case Taken():
                    yield record
                case State():
                    await self._restate(record)
                case Title():
                    raise self._senseless("a second title")

    def _fold(self, block: Block) -> None:
        if block.head.parent != self.head.hash:
            raise self._senseless(f"block {block.head.number} does not follow {self.head.number}")
        self.book.fold(block.head, block.logs)

    def _hear(self, reads: Reads) -> None:
        """Give the book its answers, once, since what it asks next rests on what it heard."""
        self.wanted = self.book.reads()
        self.held = dict(zip(reads.calls, reads.results, strict=True))
        if self.lenders is not None:
            self.lenders.take(self.held)
        at = self.head.next_block(self.table.block_time, self.table.inclusion_model)
        with suppress(TransientError):
            self.book.observe(*self.answers(), self.head, at)

    async def _widen(self) -> None:
        for part, tokens in list(missing(self.book)):
            try:
                await widen(self.book, part, tokens, self.reader, Blocks(self.rpc))
            except TransientError as error:
                log.info("venue.not_widened", chain=self.name, venue=part, error=str(error))

    async def _restate(self, state: State) -> None:
        """Take a state written in the middle: whoever recorded had lost the chain before it."""
        self.book.abandon()
        await self.watched.restore(lambda source: state.pages[source], state.head, state.head)
        self.book.stand_at(state.head)
        for part in list(self.book.stopped):
            if not self.book.parts.is_folded(part):
                self.book.parts.begin(part)
                self.book.parts.rejoin(part)
        await self.book.load()
        for part in list(self.book.parts.faults):
            self.book.trust(part)

    def _senseless(self, why: str) -> ConfigError:
        return ConfigError(f"{self.where}: the tape contradicts itself: {why}", "record it anew")


def _tell_stopped(chain: str, part: str, fault: Fault) -> None:
    kind, _, name = part.partition("/")
    log.error(STOPPED[kind], chain=chain, name=name, kind=str(fault.kind), why=fault.why)
