"""One bare node for each test process; every test goes on from where the chain stands."""

from collections.abc import AsyncIterator, Iterator

import pytest

from keeper.errors import ConfigError
from tests.chaos.node import Node, started_anvil
from tests.chaos.proxy import FaultProxy


@pytest.fixture(scope="session")
def node_url() -> Iterator[str]:
    try:
        started = started_anvil()
        url = started.__enter__()
    except ConfigError as error:
        pytest.skip(f"no local chain: {error}")
    yield url
    started.__exit__(None, None, None)


@pytest.fixture
async def node(node_url: str) -> AsyncIterator[Node]:
    chain = Node(node_url)
    await chain.prepare()
    yield chain
    await chain.endpoint.close()


@pytest.fixture
async def proxy(node_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(node_url) as between:
        yield between
