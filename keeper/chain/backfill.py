"""Logs of many blocks at once, each block's proven by its own header."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from keeper.chain import bloom
from keeper.chain.blocks import Blocks, in_order
from keeper.chain.ranges import LogRanges
from keeper.errors import ConfigError, RpcError
from keeper.types import Head, Log, Watch
from keeper.units import Hash

_RANGE_FROM = 8


async def logs_by_block(
    blocks: Blocks, ranges: LogRanges, heads: Sequence[Head], watch: Watch
) -> list[Sequence[Log]]:
    """Return each linked header's matching logs, in order and with its timestamp.

    A range answer is taken block by block, where nothing speaks against it: a node that lags
    answers a range with fewer logs and no error. Where a range takes several requests, a block is
    taken only as far as the answer to each shows that its node held it. A block the bloom admits
    and the range left empty or got wrong, and every block of a short gap, is asked for by its hash.
    """
    found: dict[Hash, Sequence[Log]] = {}
    admitted = [head for head in heads if not bloom.matches_nothing(blocks.admitted(head, watch))]
    if len(admitted) >= _RANGE_FROM:
        claimed: dict[int, list[Log]] = {}
        linked = {head.number: head.hash for head in heads}
        # What nobody gives as a range may still be had block by block.
        with contextlib.suppress(RpcError, ConfigError):
            async for each in ranges.answers(watch, admitted[0].number, admitted[-1].number):
                held = min(_last_held(answer, linked) for answer in each)
                for log in in_order(each):
                    if log.block_number <= held:
                        claimed.setdefault(log.block_number, []).append(log)
        for head in admitted:
            logs = claimed.get(head.number)
            if logs and not blocks.doubt(head, watch, logs):
                found[head.hash] = [log.at(head.timestamp) for log in logs]
    open_heads = [head for head in admitted if head.hash not in found]
    answers = await asyncio.gather(*(blocks.logs(head, watch) for head in open_heads))
    found.update(zip((head.hash for head in open_heads), answers, strict=True))
    return [found.get(head.hash, []) for head in heads]


def _last_held(logs: Sequence[Log], linked: Mapping[int, Hash]) -> int:
    """Return the highest block that an answer's sender is seen to hold, -1 if none is."""
    held = (log.block_number for log in logs if linked.get(log.block_number) == log.block_hash)
    return max(held, default=-1)
