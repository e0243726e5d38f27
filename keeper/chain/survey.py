"""Look at every endpoint of a chain side by side: who answers, who lags, who is on another chain."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import structlog

from keeper.chain import parse
from keeper.errors import TransientError
from keeper.ports import Rpc
from keeper.types import Head
from keeper.units import Hash

log = structlog.get_logger(__name__)


class Standing(StrEnum):
    """Whether an endpoint is used, or why it is left out."""

    UNSEEN = "unseen"
    USABLE = "usable"
    SILENT = "silent"
    BEHIND = "behind"
    OTHER_CHAIN = "other_chain"
    UNPROVEN = "unproven"
    DISAGREES = "disagrees"


@dataclass(frozen=True, slots=True)
class Sight:
    """What an endpoint showed of itself, and the seconds its head took."""

    chain_id: int
    head: Head
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an endpoint stands; `lag` in blocks behind the highest one that is believed."""

    standing: Standing
    reason: str = ""
    lag: int | None = None


@dataclass(frozen=True, slots=True)
class Anchor:
    """A settled block every endpoint of the chain has to hold."""

    number: int
    hash: Hash


class Survey:
    """Judge endpoints by what they show; first come first believed when two disagree.

    `depth` is how many blocks below the highest head a block counts as settled. Endpoints that all
    left a settled block behind are believed at once when none is missing. One that gives no answer
    may be the one that is right, so the others are believed only after `absence` seconds without
    anybody who holds that block: a dead endpoint does not keep the rest out for ever.
    """

    def __init__(
        self,
        chain_id: int,
        *,
        allowed_lag: int = 2,
        depth: int = 64,
        absence: float = 120.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chain_id = chain_id
        self._allowed_lag = allowed_lag
        self._depth = depth
        self._absence = absence
        self._monotonic = monotonic
        self._anchor: Anchor | None = None
        self._left_since: float | None = None

    async def judge(
        self, endpoints: Mapping[str, Rpc], sights: Mapping[str, Sight]
    ) -> dict[str, Verdict]:
        """Return a verdict for every endpoint that showed itself.

        `sights` are in order of trust. Endpoints that fail while asked for a settled block are
        silent.
        """
        verdicts: dict[str, Verdict] = {}
        heads: dict[str, Head] = {}
        for alias, sight in sights.items():
            if sight.chain_id == self._chain_id:
                heads[alias] = sight.head
            else:
                reason = f"serves chain {sight.chain_id}, not {self._chain_id}"
                verdicts[alias] = Verdict(Standing.OTHER_CHAIN, reason)
        found = await self._compare(endpoints, heads, self._anchor)
        if self._anchor is not None and _all_left(found):
            if self._left_since is None:
                self._left_since = self._monotonic()
            missing = len(endpoints) - sum(_has_left(verdict) for verdict in found.values())
            if not missing or self._monotonic() - self._left_since >= self._absence:
                # Nobody goes on from the block settled before: there is no chain but theirs.
                log.warning("chain.resettled", chain_id=self._chain_id, absent_endpoints=missing)
                found = await self._compare(endpoints, heads, None)
        else:
            self._left_since = None
        return verdicts | found

    async def _compare(
        self, endpoints: Mapping[str, Rpc], heads: Mapping[str, Head], anchor: Anchor | None
    ) -> dict[str, Verdict]:
        verdicts: dict[str, Verdict] = {}
        left = dict(heads)
        while left:
            top = max(left, key=lambda alias: left[alias].number)
            height = max(left[top].number - self._depth, 0)
            asked = [alias for alias, head in left.items() if head.number >= height]
            shown = await _hashes(endpoints, asked, height, verdicts)
            for alias in verdicts:
                left.pop(alias, None)
            if top not in left:
                continue
            believed = _most(list(shown.values()))
            group = [alias for alias, block in shown.items() if block == believed]
            if anchor is not None and anchor.number <= height:
                held = await _hashes(endpoints, group[:1], anchor.number, verdicts)
                if group[0] in verdicts and verdicts[group[0]].standing is Standing.SILENT:
                    del left[group[0]]
                    continue
                if held.get(group[0]) != anchor.hash:
                    for alias in group:
                        reason = f"does not go on from the block {anchor.number} seen before"
                        verdicts[alias] = Verdict(Standing.DISAGREES, reason)
                        del left[alias]
                    continue
            for alias in shown.keys() - set(group):
                reason = f"has another block {height} than {', '.join(group)}"
                verdicts[alias] = Verdict(Standing.DISAGREES, reason)
                del left[alias]
            self._anchor = Anchor(height, believed)
            return verdicts | self._lags(left)
        return verdicts

    def _lags(self, heads: Mapping[str, Head]) -> dict[str, Verdict]:
        highest = max(head.number for head in heads.values())
        verdicts: dict[str, Verdict] = {}
        for alias, head in heads.items():
            lag = highest - head.number
            if lag > self._allowed_lag:
                verdicts[alias] = Verdict(Standing.BEHIND, f"is {lag} blocks behind", lag)
            else:
                verdicts[alias] = Verdict(Standing.USABLE, lag=lag)
        return verdicts


async def _hashes(
    endpoints: Mapping[str, Rpc],
    asked: Sequence[str],
    height: int,
    verdicts: dict[str, Verdict],
) -> dict[str, Hash]:
    """Return who has which block at a height; who shows none gets a verdict instead."""
    answers = await asyncio.gather(
        *(_hash_at(endpoints[alias], height) for alias in asked), return_exceptions=True
    )
    shown: dict[str, Hash] = {}
    for alias, answer in zip(asked, answers, strict=True):
        match answer:
            case None:
                reason = f"tells of a head and does not have block {height} below it"
                verdicts[alias] = Verdict(Standing.UNPROVEN, reason)
            case TransientError():
                verdicts[alias] = Verdict(Standing.SILENT, "gives no answer")
            case BaseException():
                raise answer
            case _:
                shown[alias] = answer
    return shown


async def _hash_at(rpc: Rpc, height: int) -> Hash | None:
    header = await rpc.request("eth_getBlockByNumber", [hex(height), False])
    if header is None:
        return None
    head = parse.head(header)
    return head.hash if head.number == height else None


def _most(hashes: Sequence[Hash]) -> Hash:
    """Return the hash most have; the first one among equals."""
    return Counter(hashes).most_common(1)[0][0]


def _all_left(verdicts: Mapping[str, Verdict]) -> bool:
    """Tell whether some disagree with the settled block, and whoever does not says nothing."""
    speaking = [each for each in verdicts.values() if each.standing is not Standing.SILENT]
    return bool(speaking) and all(map(_has_left, speaking))


def _has_left(verdict: Verdict) -> bool:
    return verdict.standing is Standing.DISAGREES
