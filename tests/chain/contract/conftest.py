"""A liquidator per test, and hostile contracts compiled once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import vyper  # type: ignore[import-untyped]

from keeper.devnet import Devnet
from tests.chain.contract.stage import Stage, deploy

MOCKS = Path(__file__).with_name("mocks")


@cache
def mock_code(name: str) -> bytes:
    """Return the creation code of a mock."""
    output = vyper.compile_code((MOCKS / f"{name}.vy").read_text(), output_formats=["bytecode"])
    return bytes.fromhex(output["bytecode"][2:])


@pytest.fixture
def stage(net: Devnet) -> Stage:
    """A configured liquidator; the chain is set back afterwards."""
    return deploy(net)


@pytest.fixture
def mock(net: Devnet) -> Callable[..., bytes]:
    """Deploy a mock by name, its address arguments appended."""

    def put(name: str, *addresses: bytes) -> bytes:
        return net.deploy(mock_code(name) + b"".join(bytes(12) + a for a in addresses))

    return put


@pytest.fixture
def crashed(stage: Stage) -> Callable[..., list[bytes]]:
    """Open borrowers and let the collateral fall by a tenth."""

    def make(n: int, collateral: str = "WETH", debt: str = "USDC", **more: Any) -> list[bytes]:
        net = stage.net
        opened = net.borrowers(
            n, collateral=collateral, debt=debt, health=1.05, size_usd=20_000, **more
        )
        net.set_price(collateral, net.price(collateral) * 9 // 10)
        return opened

    return make
