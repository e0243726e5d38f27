"""Headers, and the exact logs of one block: asked by hash, so no answer is another block's.

An empty one is right where `rpc` is an `EndpointPool`, which takes none from an endpoint that does
not hold the block; alone, several kinds of node answer `[]` about a block they do not know.
"""

import asyncio
from collections.abc import Sequence

from keeper.chain import bloom, parse, raw_logs
from keeper.chain.entries import GET_LOGS
from keeper.errors import TransientError
from keeper.ports import Rpc
from keeper.types import Head, Log, Watch
from keeper.units import Hash, to_hex

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

    async def logs(self, head: Head, watch: Watch) -> Sequence[Log]:
        """Return the block's matching logs in order, with its timestamp; raw where they are plain.

        Costs nothing when the bloom excludes them.
        """
        wanted = self.admitted(head, watch)
        if bloom.matches_nothing(wanted):
            return []
        answers = await _answers(self._rpc, wanted, {"blockHash": to_hex(head.hash)})
        read = [raw_logs.of_block(answer, head.timestamp) for answer in answers]
        logs = read[0] if len(read) == 1 else in_order(read)
        if doubt := self.doubt(head, watch, logs):
            raise TransientError(f"asked for logs of block {head.number}, was given {doubt}")
        return logs

    def doubt(self, head: Head, watch: Watch, logs: Sequence[Log]) -> str:
        """Say what proves an answer wrong: logs, in chain order, as those of a block; "" if nothing.

        What is left out cannot be seen: a bloom only rules logs out.
        """
        wanted = self.admitted(head, watch)
        if isinstance(logs, raw_logs.RawLogs):
            return logs.doubt(head, wanted)
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
        """Return the part of a watch the header's bloom cannot rule out.

        All zeros over used gas rule nothing out: some nodes fill the field in. Where they are true,
        a block without a log costs one request.
        """
        if not self._trust_bloom or (head.gas_used and not any(head.bloom)):
            return watch
        return bloom.narrow(watch, head.bloom)

    async def _block(self, method: str, which: str) -> Head:
        header = await self._rpc.request(method, [which, False])
        if header is None:
            raise TransientError(f"the node does not know block {which}")
        return parse.head(header)


async def fetch_logs(rpc: Rpc, watch: Watch, where: dict[str, str]) -> list[list[Log]]:
    """Return the matching logs of each request that the address list takes, in chain order.

    Each may have been answered by another node, one of which lags.
    """
    return list(map(parse.logs, await _answers(rpc, watch, where)))


def in_order(answers: Sequence[Sequence[Log]]) -> list[Log]:
    """Return the logs of several answers, each in chain order, in chain order."""
    if len(answers) == 1:
        return list(answers[0])
    logs = [log for answer in answers for log in answer]
    logs.sort(key=lambda log: (log.block_number, log.index))
    return logs


async def _answers(rpc: Rpc, watch: Watch, where: dict[str, str]) -> list[object]:
    addresses = [to_hex(address) for address in sorted(watch.addresses)]
    topics = [to_hex(topic) for topic in sorted(watch.topics)]
    queries = (
        {**where, "address": addresses[at : at + ADDRESSES_PER_REQUEST], "topics": [topics]}
        for at in range(0, len(addresses), ADDRESSES_PER_REQUEST)
    )
    return list(await asyncio.gather(*(rpc.request(GET_LOGS, [query]) for query in queries)))
