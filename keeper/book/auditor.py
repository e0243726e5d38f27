"""Compare a random part of the book with the chain from time to time; what differs stops its part."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from keeper.book.book import Book
from keeper.book.faults import Fault, FaultKind, fault_of_drift
from keeper.book.parts import part_of
from keeper.book.witness import Witness
from keeper.errors import InvariantError, TransientError
from keeper.ports import Reader, Source
from keeper.types import Drift, Head

log = structlog.get_logger(__name__)


class Auditor:
    """Audit every source each `heads` heads, beside everything else.

    A source freezes what it compares before its first read, at the head the book stands at, so
    that folding goes on meanwhile; what was reorganised out or stopped before the answer came says
    nothing. Answers that show drift are asked for again through `second`, another endpoint where
    there is one: only when it gives the same ones is the part stopped. `checked` is told the
    source, how many values were read and how many differed.
    """

    def __init__(
        self,
        chain: str,
        book: Book,
        reader: Reader,
        second: Reader,
        checked: Callable[[str, int, int], None],
        *,
        heads: int,
        sample: int,
        seed: Callable[[], int],
    ) -> None:
        self._chain = chain
        self._book = book
        self._reader = reader
        self._second = second
        self._checked = checked
        self._heads = heads
        self._sample = sample
        self._seed = seed
        self._passed = 0
        self._due = asyncio.Event()

    def head_done(self) -> None:
        """Count a head that was decided on; the audit falls due after its send."""
        self._passed += 1
        if self._passed >= self._heads:
            self._passed = 0
            self._due.set()

    async def run(self) -> None:
        """Audit whenever it is due, until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            await self.audit()

    async def audit(self) -> None:
        """Audit every source once; one that cannot be read is told and left for the next time."""
        for name, source in self._book.sources.items():
            if not self._book.parts.is_folded(part_of(name)):
                continue
            try:
                await self._audit(name, source)
            except TransientError as error:
                log.warning("audit.unanswered", chain=self._chain, source=name, error=str(error))
            except Exception as error:
                log.exception("audit.failed", chain=self._chain, source=name, error=str(error))

    async def _audit(self, name: str, source: Source) -> None:
        part, head = part_of(name), self._book.head
        if head is None:
            return
        stops = self._book.parts.stops(part)
        witness = Witness(self._reader)
        fault, drifts = await self._compare(source, witness, head)
        if not self._stands(part, head, stops):
            return
        self._checked(name, witness.values, len(drifts))
        if fault is None:
            return
        if not await witness.is_confirmed(self._second):
            log.warning(
                "audit.disputed",
                chain=self._chain,
                source=name,
                head=head.number,
                difference=fault.why,
                reason="a second reading of the same block gave another answer",
            )
        elif self._stands(part, head, stops):
            self._book.parts.stop(part, fault)

    async def _compare(
        self, source: Source, witness: Reader, head: Head
    ) -> tuple[Fault | None, Sequence[Drift]]:
        # Nothing is awaited between the look at the head and this call, nor in it before it reads.
        try:
            drifts = await source.audit(witness, head, self._sample, self._seed())
        except InvariantError as error:
            return Fault(FaultKind.DRIFT, str(error), head.number), ()
        return (fault_of_drift(drifts, head.number) if drifts else None), drifts

    def _stands(self, part: str, head: Head, stops: int) -> bool:
        return self._book.holds(head) and self._book.parts.stops(part) == stops
