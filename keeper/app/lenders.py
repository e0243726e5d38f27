"""Whose loans and swaps the contract's owner allows: others would undo every batch with one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple

import structlog
from eth_utils.address import to_checksum_address

from keeper.app.looking import Looking
from keeper.app.watched import Watched
from keeper.config import Chain
from keeper.engine import Report
from keeper.errors import TransientError
from keeper.observers.observation import Event, Observation
from keeper.planning.owner_calls import (
    FLASH_LOANS,
    VAULT_REDEEM,
    encode_factories,
    encode_spender_of,
)
from keeper.ports import LendingProtocol, Reader, Venue
from keeper.types import (
    AllowedCall,
    Call,
    CallResult,
    FlashKind,
    FlashSource,
    Hop,
    Permission,
    PoolCall,
    PoolSwap,
    TrustedFactory,
    VaultRedeem,
)
from keeper.units import Address, to_hex

log = structlog.get_logger(__name__)

_REFUSED = "NotAllowed"

_SAID = {
    "lender": ("lender.not_allowed", "lender.allowed"),
    "venue": ("venue.not_allowed", "venue.allowed"),
}

Action = tuple[Address, bytes]
"""A contract, and the selector called there; none for a factory, whose pools are called."""


class Allowed(NamedTuple):
    """What the contract may do now: take a loan of a source, make a hop of a sale."""

    lends: Callable[[FlashSource], bool]
    sells: Callable[[Hop], bool]


class _Asked(NamedTuple):
    """What is asked of an action, and the answer that allows it; `part` is who would take it."""

    role: str
    part: str
    question: bytes
    expected: bytes


class Lenders:
    """What the contract says of lenders and venues; what it does not answer is left to the simulation.

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
        self._barred: Mapping[Action, _Asked] = {}
        self._venue_of: dict[Address, str] = {}
        self._looking = Looking(self.read, self._unread)

    def may_lend(self, source: FlashSource) -> bool:
        """Tell whether the contract may take a loan of a source."""
        if not self._barred:
            return True
        if source.kind is not FlashKind.UNISWAP_V3:
            return all((source.source, each) not in self._barred for each in FLASH_LOANS)
        venue = self._venues.get(self._lending(source))
        return venue is None or not any(
            isinstance(each, TrustedFactory) and (each.factory, b"") in self._barred
            for each in venue.permissions()
        )

    def may_sell(self, hop: Hop) -> bool:
        """Tell whether the contract may make a hop as its venue would have it made."""
        venue = self._venues.get(hop.venue) if self._barred else None
        if venue is None:
            return True
        match venue.execution(hop):
            case PoolSwap(factory=factory):
                return (factory, b"") not in self._barred
            case PoolCall(target=target, head=head):
                return (target, head[:4]) not in self._barred
            case VaultRedeem():
                return (hop.token_in, VAULT_REDEEM) not in self._barred
            case _:
                return True

    async def read(self) -> None:
        """Ask the contract about all of them; raise `TransientError` when it cannot be asked."""
        calls = self.questions()
        answers = await self._reader.multicall(calls)
        self.take(dict(zip(calls, answers, strict=True)))

    def questions(self) -> list[Call]:
        """Return what to ask the contract."""
        return [Call(self._contract, asked.question) for asked in self._wanted().values()]

    def take(self, answers: Mapping[Call, CallResult]) -> None:
        """Learn what the contract said; who was not asked about is left to the simulation."""
        barred = {
            action: asked
            for action, asked in self._wanted().items()
            if (answer := answers.get(Call(self._contract, asked.question))) is not None
            and answer.ok
            and len(answer.data) == len(asked.expected)
            and answer.data != asked.expected
        }
        for action in sorted(barred.keys() - self._barred.keys()):
            log.warning(
                _SAID[barred[action].role][0],
                **self._shown(action, barred[action]),
                hint="`keeper contract allow` shows what the owner must sign",
            )
        for action in sorted(self._barred.keys() - barred.keys()):
            asked = self._barred[action]
            log.info(_SAID[asked.role][1], **self._shown(action, asked))
        self._barred = barred

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

    def _lending(self, source: FlashSource) -> str:
        """Return the venue whose pool lends; a pool is of one venue for good, so it is looked up once."""
        if source.source not in self._venue_of:
            for name, venue in self._venues.items():
                for each in venue.flash_sources(source.token):
                    self._venue_of[each.source] = name
            self._venue_of.setdefault(source.source, "")
        return self._venue_of[source.source]

    def _wanted(self) -> dict[Action, _Asked]:
        """Return what to ask of every action."""
        wanted: dict[Action, _Asked] = {}
        for part, permission in self._permissions():
            match permission:
                case AllowedCall(target, selector, spender):
                    role = "lender" if selector in FLASH_LOANS else "venue"
                    question, word = encode_spender_of(target, selector), spender.rjust(32, b"\0")
                    wanted[target, selector] = _Asked(role, part, question, word)
                case TrustedFactory(factory, code_hash):
                    question = encode_factories(factory)
                    wanted[factory, b""] = _Asked("venue", part, question, code_hash)
        return wanted

    def _permissions(self) -> Iterator[tuple[str, Permission]]:
        """Yield the loans of every market, and all that venues need."""
        for name, market in self._markets.items():
            for permission in market.permissions():
                if isinstance(permission, AllowedCall) and permission.selector in FLASH_LOANS:
                    yield name, permission
        for name, venue in self._venues.items():
            for permission in venue.permissions():
                yield name, permission

    def _shown(self, action: Action, asked: _Asked) -> dict[str, str]:
        target, selector = action
        shown = {asked.role: asked.part, "target": to_checksum_address(target)}
        return {"chain": self._chain, **shown, **({"call": to_hex(selector)} if selector else {})}


def make_lenders(name: str, chain: Chain, watched: Watched, reader: Reader) -> Lenders | None:
    """Return what asks a chain's contract; None without one: then everything is allowed."""
    if chain.contract is None:
        return None
    return Lenders(name, reader, chain.contract, watched.markets, watched.venues)


def allowed_by(lenders: Lenders | None) -> Allowed:
    """Return what may be done: everything where there is no contract to ask."""
    if lenders is None:
        return Allowed(lambda _: True, lambda _: True)
    return Allowed(lenders.may_lend, lenders.may_sell)


async def open_lenders(
    name: str,
    chain: Chain,
    watched: Watched,
    reader: Reader,
    observation: Observation,
    stack: AsyncExitStack,
) -> Allowed:
    """Return what the contract may do, asked now and then beside the line."""
    lenders = make_lenders(name, chain, watched, reader)
    if lenders is not None:
        await lenders.read()
        observation.add(lenders.observe)
        stack.push_async_callback(lenders.close)
    return allowed_by(lenders)
