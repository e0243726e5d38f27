"""Headers, and the exact logs of one block: asked by hash, so an answer is right or an error."""

import asyncio
from collections.abc import Sequence

from keeper.chain import bloom, parse
from keeper.errors import TransientError
from keeper.ports import Rpc
from keeper.types import Head, Log, Watch
from keeper.units import Address, Hash, to_hex

ADDRESSES_PER_REQUEST = 1_000
"""Providers refuse longer address lists."""


class Blocks:
    """Reads of block headers and of one block's logs.

    `trust_bloom` is for chains whose headers carry a true bloom; without it every block is asked.
    """

    def __init__(self, rpc: Rpc, *, trust_bloom: bool = True) -> None:
        self._rpc = rpc
        self._trust_bloom = trust_bloom

    async def latest(self) -> Head:
        """Return the newest header the node knows."""
        return await self._block("eth_getBlockByNumber", "latest")

    async def by_number(self, number: int) -> Head:
        """Return the canonical header at a height."""
        head = await self._block("eth_getBlockByNumber", hex(number))
        if head.number != number:
            raise TransientError(f"asked for block {number}, was given {head.number}")
        return head

    async def by_hash(self, block: Hash) -> Head:
        """Return a header by its hash."""
        head = await self._block("eth_getBlockByHash", to_hex(block))
        if head.hash != block:
            raise TransientError(f"asked for block {to_hex(block)}, was given {to_hex(head.hash)}")
        return head

    async def logs(self, head: Head, watch: Watch) -> list[Log]:
        """Return the block's matching logs in order, with its timestamp.

        Costs nothing when the bloom excludes them.
        """
        wanted = self.admitted(head, watch)
        if bloom.matches_nothing(wanted):
            return []
        where = {"blockHash": to_hex(head.hash)}
        logs = await fetch_logs(self._rpc, wanted, where, head.timestamp)
        if doubt := self.doubt(head, watch, logs):
            raise TransientError(f"asked for logs of block {head.number}, was given {doubt}")
        return logs

    def doubt(self, head: Head, watch: Watch, logs: Sequence[Log]) -> str:
        """Say what proves an answer wrong: logs, in chain order, as those of a block; "" if nothing.

        What is left out cannot be seen: a bloom only rules logs out.
        """
        wanted = self.admitted(head, watch)
        last = -1
        for log in logs:
            if log.block_hash != head.hash or log.block_number != head.number:
                return "another's"
            if log.index == last:
                return "one twice"
            if log.address not in wanted.addresses or wanted.topics.isdisjoint(log.topics[:1]):
                return "one not asked for"
            last = log.index
        return ""

    def admitted(self, head: Head, watch: Watch) -> Watch:
        """Return the part of a watch the header's bloom cannot rule out."""
        return bloom.narrow(watch, head.bloom) if self._trust_bloom else watch

    async def _block(self, method: str, which: str) -> Head:
        header = await self._rpc.request(method, [which, False])
        if header is None:
            raise TransientError(f"the node does not know block {which}")
        return parse.head(header)


async def fetch_logs(
    rpc: Rpc, watch: Watch, where: dict[str, str], timestamp: int = 0
) -> list[Log]:
    """Return matching logs in chain order; a long address list takes several requests.

    `timestamp` is that of the block asked for, when it is one.
    """
    addresses = sorted(watch.addresses)
    topics = [to_hex(topic) for topic in sorted(watch.topics)]
    chunks = range(0, len(addresses), ADDRESSES_PER_REQUEST)
    answers = await asyncio.gather(
        *(
            _request(rpc, addresses[at : at + ADDRESSES_PER_REQUEST], topics, where, timestamp)
            for at in chunks
        )
    )
    if len(answers) == 1:
        return answers[0]
    logs = [log for answer in answers for log in answer]
    logs.sort(key=lambda log: (log.block_number, log.index))
    return logs


async def _request(
    rpc: Rpc,
    addresses: Sequence[Address],
    topics: Sequence[str],
    where: dict[str, str],
    timestamp: int,
) -> list[Log]:
    names = [to_hex(address) for address in addresses]
    query = {**where, "address": names, "topics": [topics]}
    return parse.logs(await rpc.request("eth_getLogs", [query]), timestamp)
