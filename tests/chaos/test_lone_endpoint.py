"""A single endpoint gets the care of several: another chain, a false head, silence, a rate limit."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from keeper.chain.connect import connect_pool
from keeper.chain.reader import ChainReader
from keeper.errors import ConfigError, TransientError
from tests.fake_chain import address
from tests.served_chain import ServedChain

CHAIN_ID = 7
A = address(1)


class Lone(ServedChain):
    """Tells a chain id, and a head that need not exist."""

    def __init__(self) -> None:
        super().__init__()
        self.chain_id = CHAIN_ID
        self.claims = 0
        self.answering = self._tell
        for _ in range(100):
            self.mine()

    def _tell(self, method: str, params: Sequence[Any]) -> object:
        if method == "eth_chainId":
            return hex(self.chain_id)
        if self.claims and method == "eth_getBlockByNumber" and params[0] == "latest":
            return self._known[self._canonical[-1]][0] | {"number": hex(self.claims)}
        return None


def pooled(url: str, **options: Any) -> Any:
    fast = {
        "probe_interval": 0.05,
        "shortest_probe_interval": 0.01,
        "patience": 0.3,
        "longest_request": 0.3,
        "attempts": 2,
    }
    return connect_pool([(url, "only")], CHAIN_ID, **(fast | options))


def one_line(error: Exception) -> str:
    text = str(error)
    assert "\n" not in text
    assert "127.0.0.1" not in text
    return text


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_another_chain_is_the_operators_error(scheme: str) -> None:
    chain = Lone()
    chain.chain_id = 1
    async with chain.served(), AsyncExitStack() as stack:
        url = chain.url if scheme == "http" else chain.ws_url
        with pytest.raises(ConfigError) as raised:
            await stack.enter_async_context(pooled(url))
    assert one_line(raised.value).startswith("endpoint only serves chain 1, not 7 → ")


async def test_a_head_that_is_not_there_is_not_believed() -> None:
    chain = Lone()
    chain.claims = 5_000
    async with chain.served(), AsyncExitStack() as stack:
        with pytest.raises(TransientError) as raised:
            await stack.enter_async_context(pooled(chain.url))
    text = one_line(raised.value)
    assert text == (
        "no usable endpoint: only tells of a head and does not have block 4936 below it"
    )


@pytest.mark.parametrize("fault", ["another chain", "false head", "silence"])
async def test_what_goes_wrong_later_is_told_and_outlasted(fault: str) -> None:
    chain = Lone()
    async with chain.served(), pooled(chain.ws_url) as (pool, _):
        reader = ChainReader(pool)
        assert (await reader.head()).number == 100
        with capture_logs() as lines:
            match fault:
                case "another chain":
                    # A provider's balancer sends the next connection to a node of another network.
                    chain.chain_id = 1
                    chain.abort()
                case "false head":
                    chain.claims = 5_000
                case _:
                    chain.half_open()
                    chain.silent = True
            await _until(lambda: any(line["event"] == "endpoint.left_out" for line in lines))
            with pytest.raises(TransientError, match="no usable endpoint: only") as raised:
                await reader.head()
            one_line(raised.value)
            chain.chain_id, chain.claims, chain.silent = CHAIN_ID, 0, False
            await _until(lambda: any(line["event"] == "endpoint.used" for line in lines))
        assert (await reader.head()).hash == chain.head.hash


async def test_heads_open_in_the_time_a_request_has() -> None:
    chain = Lone()
    loop = asyncio.get_running_loop()
    async with chain.served(), pooled(chain.ws_url, probe_interval=60.0) as (_, heads):
        chain.half_open()
        chain.silent = True
        started = loop.time()
        with pytest.raises(TransientError, match="no answer to eth_subscribe"):
            async with heads.open():
                pass
        assert 0.3 <= loop.time() - started < 4


async def test_a_rate_limit_is_waited_out_by_all_reads() -> None:
    chain = Lone()
    async with chain.served(), pooled(chain.url, probe_interval=60.0) as (pool, _):
        limited = [web.Response(status=429, headers={"Retry-After": "1"})]
        chain.refusing = lambda method: limited.pop() if limited else None
        before = chain.received.total()
        assert (await ChainReader(pool).head()).number == 100
        assert chain.received.total() == before + 2


async def _until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - log lines raise no event
            await asyncio.sleep(0.01)
