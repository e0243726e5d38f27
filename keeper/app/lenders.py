"""Whose flash loans the contract's owner allows: another's would undo every batch that takes one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack

import structlog
from eth_utils.address import to_checksum_address

from keeper.app.looking import Looking
from keeper.app.watched import Watched
from keeper.config import Chain
from keeper.engine import Report
from keeper.errors import TransientError
from keeper.observers.observation import Event, Observation
from keeper.planning.owner_calls import FLASH_LOANS, encode_factories, encode_spender_of
from keeper.ports import LendingProtocol, Reader, Venue
from keeper.types import AllowedCall, Call, CallResult, FlashSource, TrustedFactory
from keeper.units import Address

log = structlog.get_logger(__name__)

_REFUSED = "NotAllowed"

Lender = Address | str
"""Who is called for a loan, or the venue whose pools lend."""


class Lenders:
    """What the contract says of every lender; what it does not answer is left to the simulation.

    Looked at again now and then: the owner may change his mind while the keeper runs.
    """

    def __init__(
        self,
        chain: str,
        reader: Reader,
        contract: Address,
        markets: Mapping[str, LendingProtocol],
        venues: Mapping[str, Venue],
    ) -> None:
        self._chain = chain
        self._reader = reader
        self._contract = contract
        self._markets = markets
        self._venues = venues
        self._barred: frozenset[Lender] = frozenset()
        self._looking = Looking(self.read, self._unread)

    def may_lend(self, source: FlashSource) -> bool:
        """Tell whether the contract may take a loan of a source."""
        if not self._barred:
            return True
        return source.source not in self._barred and not any(
            source in venue.flash_sources(source.token)
            for name, venue in self._venues.items()
            if name in self._barred
        )

    async def read(self) -> None:
        """Ask the contract about all of them; raise `TransientError` when it cannot be asked."""
        calls = self.questions()
        answers = await self._reader.multicall(calls)
        self.take(dict(zip(calls, answers, strict=True)))

    def questions(self) -> list[Call]:
        """Return what to ask the contract."""
        return [Call(self._contract, question) for _, question, _ in self._wanted()]

    def take(self, answers: Mapping[Call, CallResult]) -> None:
        """Learn what the contract said; who was not asked about is left to the simulation."""
        barred = {
            lender
            for lender, question, expected in self._wanted()
            if (answer := answers.get(Call(self._contract, question))) is not None
            and answer.ok
            and len(answer.data) == len(expected)
            and answer.data != expected
        }
        for lender in sorted(map(_shown, barred - self._barred)):
            log.warning(
                "lender.not_allowed",
                chain=self._chain,
                lender=lender,
                hint="`keeper contract allow` shows what the owner must sign",
            )
        for lender in sorted(map(_shown, self._barred - barred)):
            log.info("lender.allowed", chain=self._chain, lender=lender)
        self._barred = frozenset(barred)

    def observe(self, subject: Report | Event) -> None:
        """Look again now and then, beside the line, and when a simulation says that something is barred."""
        if isinstance(subject, Report):
            refused = any(skip.detail.startswith(_REFUSED) for skip in subject.skips)
            self._looking.pass_head(now=refused)

    async def close(self) -> None:
        """End a look that is under way."""
        await self._looking.close()

    def _unread(self, error: TransientError) -> None:
        log.debug("lender.unread", chain=self._chain, error=str(error) or repr(error))

    def _wanted(self) -> Iterator[tuple[Lender, bytes, bytes]]:
        """Yield every lender, what to ask of it, and the answer that allows it."""
        parts: list[LendingProtocol | Venue] = [*self._markets.values(), *self._venues.values()]
        for permission in (each for part in parts for each in part.permissions()):
            if isinstance(permission, AllowedCall) and permission.selector in FLASH_LOANS:
                target = permission.target
                question = encode_spender_of(target, permission.selector)
                yield target, question, permission.spender.rjust(32, b"\0")
        for name, venue in self._venues.items():
            for permission in venue.permissions():
                if isinstance(permission, TrustedFactory):
                    yield name, encode_factories(permission.factory), permission.code_hash


def _shown(lender: Lender) -> str:
    return lender if isinstance(lender, str) else to_checksum_address(lender)


def make_lenders(name: str, chain: Chain, watched: Watched, reader: Reader) -> Lenders | None:
    """Return what asks a chain's contract who may lend; None without one: then everybody may."""
    if chain.contract is None:
        return None
    return Lenders(name, reader, chain.contract, watched.markets, watched.venues)


def may_lend(lenders: Lenders | None) -> Callable[[FlashSource], bool]:
    """Return whose loans may be taken: everybody's where there is no contract to ask."""
    return (lambda _: True) if lenders is None else lenders.may_lend


async def open_lenders(
    name: str,
    chain: Chain,
    watched: Watched,
    reader: Reader,
    observation: Observation,
    stack: AsyncExitStack,
) -> Callable[[FlashSource], bool]:
    """Return whose loans the contract may take, asked now and then beside the line."""
    lenders = make_lenders(name, chain, watched, reader)
    if lenders is not None:
        await lenders.read()
        observation.add(lenders.observe)
        stack.push_async_callback(lenders.close)
    return may_lend(lenders)
