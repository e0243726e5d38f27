"""Prometheus' own tools, and every metric that a keeper exports."""

import subprocess
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from keeper.metrics import ChainLabels, Metrics
from keeper.types import Backstop, Prices, Token
from keeper.units import Address

UNPACK = Path(__file__).resolve().parents[1] / "tools" / "prometheus.sh"


@pytest.fixture(scope="session")
def tools() -> Path:
    """Return the folder of Prometheus' own programs."""
    done = subprocess.run([UNPACK], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(done.stderr.strip())
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def promtool(tools: Path) -> Path:
    return tools / "promtool"


@pytest.fixture(scope="session")
def metrics() -> Metrics:
    wallet = "0x" + "11" * 20
    chains = {
        name: ChainLabels(
            12, ["aave-v3"], endpoints=["first", "second"], wallets=[wallet], relays=["builder"]
        )
        for name in ("ethereum", "other")
    }
    made = Metrics(
        version="0.1.0", commit="0" * 40, mode="dry", chains=chains, strategies=["profitability"]
    )
    for name in chains:
        made.parts(name, {"market/aave": "aave-v3"}, stopped=tuple)
        made.endpoints(name, ["first", "second"], lambda _: (True, 0))
        made.oracle(name, "aave", "WETH", 12, 3_600, 0.005, 0.001)
        made.margin(name, "whales", "call", 1, 5.0)
        deficit = Backstop("deficit", Token(Address(b"\x01" * 20), "USDC", 6), 0)
        made.backstops(name, "aave-v3", "aave", [deficit], Prices("aave", 1, {}))
    made.channels(["chat"], lambda _: 0)
    return made


@pytest.fixture(scope="session")
def exposition(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()
