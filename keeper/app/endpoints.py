"""How one chain is reached: its endpoints, used as one."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from keeper.chain.connect import connect_pool
from keeper.chain.endpoint import Observe
from keeper.chain.heads import HeadFeed
from keeper.chain.roster import EndpointState
from keeper.config import Chain
from keeper.ports import Rpc


@dataclass(frozen=True, slots=True)
class Connection:
    """What to ask, where heads come from, and how every endpoint stands.

    `second` asks another endpoint than the one reads go to, where there is one.
    """

    rpc: Rpc
    feed: HeadFeed
    second: Rpc
    states: Callable[[], Sequence[EndpointState]]


async def open_endpoints(
    chain: Chain, stack: AsyncExitStack, observe: Observe = lambda *_: None
) -> Connection:
    """Connect; raise `ConfigError` for another chain, `TransientError` when none answers."""
    named = [(entry.url.get_secret_value(), entry.alias) for entry in chain.endpoints]
    pool, feed = await stack.enter_async_context(
        connect_pool(
            named,
            chain.chain_id,
            observe,
            poll_interval=chain.poll_seconds,
            socket_retry=chain.socket_retry_seconds,
            allowed_lag=chain.allowed_lag,
        )
    )
    return Connection(pool, feed, pool.second(), pool.states)
