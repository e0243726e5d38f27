"""`keeper demo` as somebody types it first: several wallets, and one JSON object that adds up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import keeper

pytestmark = pytest.mark.chain
ROOT = Path(keeper.__file__).parent.parent
PROTOCOLS = ["aave-v3", "morpho-blue", "compound-v2", "liquity-v1", "maker-clip"]


@pytest.mark.usefixtures("devnet")
def test_several_wallets_take_every_protocol_through_one_crash() -> None:
    """Nothing is missed by the contracts' own views, and one ledger holds what all of them paid."""
    options = ["--protocols", "all", "--lanes", "3", "--borrowers", "50", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "keeper", "demo", *options],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    lanes = told["lanes"]
    assert len({lane["wallet"] for lane in lanes}) == 3
    assert sum(lane["transactions"] for lane in lanes) == told["transactions"]
    assert all(lane["liquidations"] > 0 for lane in lanes)
    parts = {part["protocol"]: part for part in told["protocols"]}
    assert list(parts) == PROTOCOLS
    assert told["borrowers"] == sum(part["borrowers"] for part in parts.values()) == 50
    assert (told["missed"], told["rejected_sends"], told["reverted"]) == (0, 0, 0)
    for part in parts.values():
        assert part["liquidated"] + part["skipped"] == part["liquidatable"] > 5
        assert part["net_profit_usd"] > 0
    assert parts["aave-v3"]["skipped"] == parts["morpho-blue"]["skipped"] == 1
    assert told["liquidated"] == sum(part["liquidated"] for part in parts.values())
    earned = sum(part["net_profit_usd"] for part in parts.values())
    assert told["net_profit_usd"] == pytest.approx(earned, abs=0.05)
    assert told["profit_is_held"]
    assert told["ledger_agrees"]
    assert told["estimate_error_bps"] <= 1
    assert told["mixed_transactions"] > 0
    assert told["most_mixed"] > 1
