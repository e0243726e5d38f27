"""`keeper demo` as somebody types it first: several wallets, and one JSON object that adds up."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import keeper

pytestmark = pytest.mark.chain
ROOT = Path(keeper.__file__).parent.parent
PROTOCOLS = ["aave-v3", "morpho-blue", "compound-v2", "liquity-v1", "maker-clip"]


def played(*options: str) -> dict[str, Any]:
    """Return what the demo tells at its end."""
    done = subprocess.run(
        [sys.executable, "-m", "keeper", "demo", *options, "--json"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.usefixtures("devnet")
def test_several_wallets_share_the_work() -> None:
    told = played("--lanes", "3", "--borrowers", "40")
    lanes = told["lanes"]
    assert len({lane["wallet"] for lane in lanes}) == 3
    assert sum(lane["transactions"] for lane in lanes) == told["transactions"]
    assert all(lane["liquidations"] > 0 for lane in lanes)
    assert told["liquidated"] + told["skipped"] == told["liquidatable"]
    assert (told["rejected_sends"], told["reverted"]) == (0, 0)


@pytest.mark.usefixtures("devnet")
def test_every_protocol_goes_through_one_crash() -> None:
    """Nothing is missed by the contracts' own views, and one ledger holds what all of them paid."""
    told = played("--protocols", "all", "--borrowers", "50")
    parts = {part["protocol"]: part for part in told["protocols"]}
    assert list(parts) == PROTOCOLS
    assert told["borrowers"] == sum(part["borrowers"] for part in parts.values()) == 50
    assert (told["missed"], told["rejected_sends"], told["reverted"]) == (0, 0, 0)
    for part in parts.values():
        assert part["liquidated"] + part["skipped"] == part["liquidatable"] > 5
        assert part["net_profit_usd"] > 0
    assert parts["aave-v3"]["skipped"] == parts["morpho-blue"]["skipped"] == 1
    assert told["liquidated"] == sum(part["liquidated"] for part in parts.values())
    assert told["net_profit_usd"] == pytest.approx(
        sum(part["net_profit_usd"] for part in parts.values()), abs=0.05
    )
    assert told["profit_is_held"]
    assert told["estimate_error_bps"] <= 1
    assert told["mixed_transactions"] > 0
