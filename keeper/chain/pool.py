"""Several endpoints of one chain asked as one: the best first, the next when it fails or lags."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from keeper.chain import jsonrpc
from keeper.chain.answers import BLOCKS, Kind, kind_of_error, kind_of_result
from keeper.chain.endpoint import repeating
from keeper.chain.entries import GET_LOGS
from keeper.chain.member import Member
from keeper.chain.race import race
from keeper.chain.roster import EndpointState, Roster
from keeper.errors import RpcError, TransientError
from keeper.ports import Rpc


@dataclass(frozen=True, slots=True)
class Said:
    """How one endpoint ended one request; no `kind` means no answer."""

    member: Member
    kind: Kind | None
    result: Any = None
    error: TransientError | None = None

    @property
    def is_final(self) -> bool:
        """Tell whether nobody else needs to be asked."""
        return self.kind is Kind.FINAL

    @property
    def is_answer(self) -> bool:
        """Tell whether it may be returned when nobody knows better.

        That something was dropped is none: an archive asked next may take its time.
        """
        return self.kind in {Kind.FINAL, Kind.UNKNOWN_BLOCK, Kind.ABSENT}


class EndpointPool:
    """Ask the best of several endpoints; satisfies `ports.Rpc`.

    A read goes to the next endpoint when one gives no answer, does not know the block, has dropped
    what is that old or does not offer the method; one that takes longer than `stagger` seconds is
    raced by the next. That a transaction is unknown is only believed when every usable endpoint
    says so.

    That a block named by its hash has no such logs is believed of an endpoint that announced the
    block, or showed its header, before it was asked: several kinds of node answer `[]` about a block
    they do not hold. Of any other one an empty answer costs a header and the same question again.
    Where one URL hides several nodes, each request may meet another one, and nothing is proven.

    Whatever is not a read, `eth_sendRawTransaction` above all, goes to exactly one endpoint and
    exactly once: an endpoint may be a private relay whose bytes must not become public elsewhere,
    and a refusal by a second node would hide that the first may hold the transaction. A failed
    hand-over counts against its endpoint at once, so that the next one goes to another.
    """

    def __init__(
        self,
        roster: Roster,
        *,
        attempts: int = 3,
        stagger: float = 0.5,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roster = roster
        self._attempts = attempts
        self._stagger = stagger
        self._monotonic = monotonic

    def __repr__(self) -> str:
        return f"EndpointPool({', '.join(member.alias for member in self._roster.members)})"

    def states(self) -> list[EndpointState]:
        """Return how every endpoint stands, in the order of the configuration."""
        return self._roster.states()

    def second(self) -> Rpc:
        """Return what asks another endpoint than the best one first, where there is one."""
        return _Second(self)

    async def request(self, method: str, params: Sequence[object]) -> Any:
        """Return the result; raise `RpcError` for an error answer, `TransientError` for none."""
        if jsonrpc.is_repeatable(method):
            return await repeating(self._attempts)(self._read, method, params)
        said = await self._ask(self._usable()[0], method, params)
        if said.error is not None:
            raise said.error
        return said.result

    async def _read(self, method: str, params: Sequence[object]) -> Any:
        usable = self._usable()
        self._roster.prefer(usable[0].alias)
        return await self._read_from(usable, method, params)

    async def read_elsewhere(self, method: str, params: Sequence[object]) -> Any:
        """Ask as `request` does, the best endpoint last."""
        best, *others = self._usable()
        return await self._read_from([*others, best], method, params)

    async def _read_from(
        self, usable: Sequence[Member], method: str, params: Sequence[object]
    ) -> Any:
        able = [member for member in usable if method not in member.lacks] or usable
        starts = [partial(self._ask, member, method, params) for member in able]
        # A range of logs takes its time everywhere: asking twice would only double the work.
        stagger = None if _is_ranged(method, params) else self._stagger
        said = await race(starts, stagger, self._stagger)
        unknown = [one.member for one in said if one.kind is Kind.UNKNOWN_BLOCK]
        if said[-1].is_final:
            for member in unknown:
                self._roster.blame(member.alias)
        elif unknown:
            self._doubt_the_only_one()
        if method == "eth_getBlockByHash":
            # The parent of a new block is not at hand: the chain went another way.
            self._doubt_the_only_one()
        return _settled(said)

    def _doubt_the_only_one(self) -> None:
        """Have a lone endpoint looked at: nobody contradicts it, and it may serve another chain."""
        if len(self._roster.members) == 1:
            self._roster.doubt.set()

    def _usable(self) -> list[Member]:
        members = self._roster.ranked()
        if not members:
            self._roster.doubt.set()
            raise self._roster.nobody()
        return members

    async def _ask(self, member: Member, method: str, params: Sequence[object]) -> Said:
        started = self._monotonic()
        try:
            result = await self._exchange(member, method, params)
        except RpcError as error:
            member.heard_at = self._monotonic()
            kind = kind_of_error(error)
            if kind is Kind.UNSUPPORTED:
                member.lacks.add(error.method)
            elif kind is Kind.REFUSED:
                self._roster.blame(member.alias)
            return Said(member, kind, error=error)
        except jsonrpc.LimitedError as error:
            member.rest(self._monotonic(), error.wait)
            return Said(member, None, error=error)
        except TransientError as error:
            self._roster.blame(member.alias)
            return Said(member, None, error=error)
        except asyncio.CancelledError:
            waited = self._monotonic() - started
            if waited >= self._stagger and member.heard_at < started:
                self._roster.blame(member.alias)
            raise
        member.heard_at = self._monotonic()
        kind = kind_of_result(method, result)
        if kind is Kind.FINAL and _named_block(params) is not None:
            member.proven_at = member.heard_at
        return Said(member, kind, result)

    async def _exchange(self, member: Member, method: str, params: Sequence[object]) -> Any:
        """Return one endpoint's result; that a block has no logs only when it holds that block."""
        block = _named_block(params)
        is_held = block in member.held
        result = await member.rpc.request(method, params)
        if method in BLOCKS and isinstance(result, dict):
            member.held.append(str(result.get("hash")))
        if method != GET_LOGS or block is None or is_held or result != []:
            return result
        member.heard_at = self._monotonic()
        header = await member.rpc.request("eth_getBlockByHash", [block, False])
        if not isinstance(header, dict):
            raise RpcError(method, -32000, f"unknown block {block}, answered without logs")
        # The block may have come after the first answer, and its logs with it.
        return await member.rpc.request(method, params)


class _Second:
    """Reads of a pool that avoid the endpoint its other reads go to."""

    def __init__(self, pool: EndpointPool) -> None:
        self._pool = pool

    async def request(self, method: str, params: Sequence[object]) -> Any:
        if not jsonrpc.is_repeatable(method):
            raise ValueError(f"{method} is no read")
        return await repeating(2)(self._pool.read_elsewhere, method, params)


def _settled(said: Sequence[Said]) -> Any:
    """Return or raise the final answer, else any answer, else why there is none.

    An endpoint without an answer may hold what another one dropped.
    """
    best = said[-1]
    if not best.is_final:
        answers = [one for one in said if one.is_answer]
        silent = [one for one in said if one.kind is None]
        dropped = [one for one in said if one.kind is Kind.DROPPED]
        best = (answers or silent or dropped or [best])[0]
    if best.error is not None:
        raise best.error
    return best.result


def _named_block(params: Sequence[object]) -> object:
    """Return the hash by which a read names its block, None where it names none so."""
    named = (each["blockHash"] for each in params if isinstance(each, dict) and "blockHash" in each)
    return next(named, None)


def _is_ranged(method: str, params: Sequence[object]) -> bool:
    return method == "eth_getLogs" and isinstance(params[0], dict) and "blockHash" not in params[0]
