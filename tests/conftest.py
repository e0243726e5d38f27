"""Fixtures that give tests a chain with the real contracts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from keeper.errors import ConfigError

if TYPE_CHECKING:
    from keeper.devnet import Devnet

Aside = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="session")
def devnet() -> Iterator[Devnet]:
    """One chain for each test process; take `net` unless a test leaves it as it found it."""
    # not before: pytest's own process and suites without a chain are spared its libraries
    import eth_account  # noqa: F401 - raises the recursion limit: not while a property is tried

    from keeper.devnet import Devnet

    try:
        started = Devnet.start(seed=1)
    except ConfigError as error:
        pytest.skip(f"no local chain: {error}")
    with started as chain:
        yield chain


@pytest.fixture
def net(devnet: Devnet) -> Iterator[Devnet]:
    """The chain, set back to where it was when the test ends."""
    before = devnet.snapshot()
    yield devnet
    devnet.automine(False)
    devnet.revert(before)


@pytest.fixture
def aside() -> Aside:
    """Run a blocking call of the chain in a thread, so that the test's event loop goes on."""

    async def run(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return await asyncio.to_thread(function, *args, **options)

    return run
