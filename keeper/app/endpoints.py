"""How one chain is reached: a single endpoint, or several used as one."""

from contextlib import AsyncExitStack

from keeper.chain.connect import connect_pool
from keeper.chain.endpoint import Endpoint, Observe, connect
from keeper.chain.heads import HeadFeed, head_feed
from keeper.chain.parse import quantity
from keeper.config import Chain
from keeper.errors import ConfigError
from keeper.ports import Rpc


async def open_endpoints(
    name: str, chain: Chain, stack: AsyncExitStack, observe: Observe = lambda *_: None
) -> tuple[Rpc, HeadFeed]:
    """Connect and return what to ask and where heads come from; raise `ConfigError` for another chain."""
    named = [(entry.url.get_secret_value(), entry.alias) for entry in chain.endpoints]
    if len(named) > 1:
        return await stack.enter_async_context(
            connect_pool(named, chain.chain_id, observe, poll_interval=chain.poll_seconds)
        )
    ((url, alias),) = named
    endpoint = await stack.enter_async_context(connect(url, alias, observe))
    await _require_chain_id(endpoint, name, chain.chain_id)
    return endpoint, head_feed(url, alias, endpoint, poll_interval=chain.poll_seconds)


async def _require_chain_id(endpoint: Endpoint, name: str, chain_id: int) -> None:
    served = quantity(await endpoint.request("eth_chainId", []))
    if served != chain_id:
        raise ConfigError(
            f"endpoint {endpoint.alias} serves chain id {served}, not {chain_id}",
            f"set chains.{name}.chain_id or another endpoint",
        )
