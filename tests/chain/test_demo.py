"""`keeper demo` as somebody types it first: several wallets, and one JSON object that adds up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import keeper

pytestmark = pytest.mark.chain
ROOT = Path(keeper.__file__).parent.parent


@pytest.mark.usefixtures("devnet")
def test_several_wallets_share_the_work() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "keeper", "demo", "--lanes", "3", "--borrowers", "40", "--json"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    lanes = told["lanes"]
    assert len({lane["wallet"] for lane in lanes}) == 3
    assert sum(lane["transactions"] for lane in lanes) == told["transactions"]
    assert all(lane["liquidations"] > 0 for lane in lanes)
    assert told["liquidated"] + told["skipped"] == told["liquidatable"]
    assert (told["rejected_sends"], told["reverted"]) == (0, 0)
