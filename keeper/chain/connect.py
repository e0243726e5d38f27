"""Connect to every endpoint of a chain, and use them as one."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

from keeper.chain.endpoint import Observe, connect, repeating
from keeper.chain.heads import HeadFeed, PolledHeads, SocketHeads
from keeper.chain.pool import EndpointPool
from keeper.chain.pooled_heads import PooledHeads
from keeper.chain.prober import Prober
from keeper.chain.roster import Roster
from keeper.chain.secrecy import SecretUrl
from keeper.chain.survey import Standing, Survey
from keeper.errors import ConfigError


@contextlib.asynccontextmanager
async def connect_pool(
    endpoints: Sequence[tuple[str, str]],
    chain_id: int,
    observe: Observe = lambda *_: None,
    *,
    poll_interval: float = 1.0,
    socket_retry: float = 60.0,
    probe_interval: float = 15.0,
    shortest_probe_interval: float = 1.0,
    patience: float = 3.0,
    longest_request: float = 10.0,
    attempts: int = 4,
    stagger: float = 0.5,
    allowed_lag: int = 2,
    settled_depth: int = 64,
    monotonic: Callable[[], float] = time.monotonic,
) -> AsyncIterator[tuple[EndpointPool, HeadFeed]]:
    """Connect to the endpoints, each a URL and an alias; yield what to ask and where heads come from.

    At least one of them answered as this chain before the body runs, and all are looked at while it
    runs. Raises `ConfigError` when those that answer serve another chain, `TransientError` when
    none answers.
    """
    async with contextlib.AsyncExitStack() as stack:
        members = [
            (
                alias,
                await stack.enter_async_context(
                    connect(url, alias, observe, timeout=longest_request, attempts=1)
                ),
            )
            for url, alias in endpoints
        ]
        roster = Roster(members, monotonic)
        survey = Survey(chain_id, allowed_lag=allowed_lag, depth=settled_depth, monotonic=monotonic)
        prober = Prober(roster, survey, monotonic, patience=patience)
        stack.push_async_callback(prober.close)
        await repeating(attempts)(_first_look, roster, prober)
        pool = EndpointPool(roster, attempts=attempts, stagger=stagger, monotonic=monotonic)
        probing = asyncio.create_task(prober.run(probe_interval, shortest_probe_interval))
        try:
            fallback = _polled(endpoints, pool, poll_interval)
            sockets = _sockets(endpoints, longest_request)
            yield pool, PooledHeads(roster, sockets, fallback, polling=socket_retry)
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)


async def _first_look(roster: Roster, prober: Prober) -> None:
    await prober.probe()
    if roster.ranked():
        return
    for state in roster.states():
        if state.standing is Standing.OTHER_CHAIN:
            raise ConfigError(
                f"endpoint {state.alias} {state.reason}", "set the chain's id or another endpoint"
            )
    raise roster.nobody()


def _is_socket(url: str) -> bool:
    return SecretUrl(url).scheme in {"ws", "wss"}


def _sockets(endpoints: Sequence[tuple[str, str]], open_timeout: float) -> dict[str, HeadFeed]:
    return {
        alias: SocketHeads(url, alias, open_timeout=open_timeout)
        for url, alias in endpoints
        if _is_socket(url)
    }


def _polled(
    endpoints: Sequence[tuple[str, str]], pool: EndpointPool, interval: float
) -> HeadFeed | None:
    aliases = [alias for url, alias in endpoints if not _is_socket(url)]
    return PolledHeads(pool, ", ".join(aliases), interval=interval) if aliases else None
