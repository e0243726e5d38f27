"""A whole `keeper run --live` process and the operator beside it: pause, resume, stop, cancel."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import keeper
from keeper.devnet import Devnet
from keeper.devnet.operator import Operator, deploy_operator
from keeper.devnet.scenario import underwater
from tests.live import BASE_FEE, Live, living

pytestmark = pytest.mark.chain
ROOT = Path(keeper.__file__).parent.parent
CHEAP = 8
"""Wei at which a block takes whatever a pool holds."""
SPIKE = 8 * BASE_FEE
"""Above what a plan made at the usual base fee offers."""


class Scene:
    """A keeper in its own process, its operator, and a borrower who may fall."""

    def __init__(self, live: Live, operator: Operator, crowd: list[bytes]) -> None:
        self.live, self.net, self.crowd = live, live.net, crowd
        self.wallet = "0x" + operator.wallet.address.hex()

    def tell(self, *words: str) -> subprocess.Popen[str]:
        """Start a command beside the keeper."""
        kept = {name: at for name, at in os.environ.items() if not name.startswith("KEEPER_")}
        return subprocess.Popen(
            [sys.executable, "-m", "keeper", *words, *self.live.options],
            cwd=self.live.home,
            env={**kept, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def told(self, *words: str) -> tuple[int, str, str]:
        """Return how a command ended and what it printed."""
        command = self.tell(*words)
        out, err = command.communicate(timeout=60)
        return command.returncode, out, err

    def status(self) -> dict[str, Any]:
        """Return what /status says of the chain."""
        (*_, address) = [
            line["status"] for line in self.logged() if line["event"] == "keeper.started"
        ]
        with urllib.request.urlopen(f"{address}/status", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)["chains"]["devnet"]
            return found

    def logged(self) -> list[dict[str, Any]]:
        """Return every line of the log."""
        lines = self.live.output.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def count(self, tag: str) -> int:
        """Return the wallet's nonce."""
        return int(self.net.rpc("eth_getTransactionCount", self.wallet, tag), 16)


@pytest.fixture
def scene(net: Devnet, tmp_path: Path) -> Iterator[Scene]:
    operator = deploy_operator(net)
    crowd = net.borrowers(2, health=1.04, size_usd=(20_000, 20_000), seed=1)
    with living(net, operator, tmp_path, ["chains.devnet.fees.replace_after=5"]) as live:
        yield Scene(live, operator, crowd)


def test_a_paused_keeper_liquidates_nobody_until_it_is_resumed(scene: Scene) -> None:
    code, out, _ = scene.told("pause")
    assert (code, out) == (0, "paused: devnet\n")
    scene.live.price(0.93)
    scene.live.block()
    assert underwater(scene.net, scene.crowd) == set(scene.crowd)
    assert scene.count("pending") == 0
    assert "operator_pause" in scene.status()["breakers"]

    scene.live.kill()
    scene.live.start()
    scene.live.block()
    assert scene.count("pending") == 0, "a pause outlives the process"
    assert "operator_pause" in scene.status()["breakers"]

    code, out, _ = scene.told("resume")
    assert (code, out) == (0, "resumed: devnet (operator_pause)\n")
    scene.live.block()
    scene.live.block()
    assert underwater(scene.net, scene.crowd) == set()
    assert scene.count("latest") == 1
    assert "operator_pause" not in scene.status()["breakers"]


def test_stop_and_cancel_leaves_a_clean_nonce_line(scene: Scene) -> None:
    live = scene.live
    live.price(0.93)
    live.base_fee = SPIKE
    live.blocks(2)
    assert scene.count("latest") == 0
    assert live.rows("SELECT state FROM transactions") == [("seen",)], "it is stuck"
    command = scene.tell("stop", "--cancel", "--within", "30")
    cancels = "SELECT state FROM transactions WHERE cancels"
    live.until(lambda: live.rows(cancels) == [("seen",)])
    live.net.rpc("anvil_setNextBlockBaseFeePerGas", hex(SPIKE))
    live.net.mine()
    out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (0, "stopped: 1 cancelled, 0 included, 0 left\n"), err
    assert live.wait() == 0
    live.net.rpc("anvil_setNextBlockBaseFeePerGas", hex(CHEAP))
    live.net.mine()
    assert (scene.count("latest"), scene.count("pending")) == (1, 1), "nothing waits in a pool"
    assert underwater(scene.net, scene.crowd) == set(scene.crowd)
    assert live.rows("SELECT 1 FROM transactions WHERE settled IS NULL") == []
    (ended,) = [line for line in scene.logged() if line["event"] == "keeper.cancelled"]
    assert (ended["cancelled"], ended["included"], ended["left"]) == (1, 0, [])


def test_what_no_block_takes_in_time_is_told_and_left_to_the_next_start(scene: Scene) -> None:
    live = scene.live
    live.price(0.93)
    live.base_fee = SPIKE
    live.blocks(2)
    code, out, err = scene.told("stop", "--cancel", "--within", "2", "--json")
    told = json.loads(out)
    assert code == 3, err
    assert (told["cancelled"], told["included"]) == (0, 0)
    (left,) = told["left"]
    assert (left["nonce"], left["sender"]) == (0, scene.wallet)
    assert live.wait() == 0
    live.base_fee = BASE_FEE
    live.start()
    live.settle()
    live.blocks(3)
    assert scene.count("latest") == scene.count("pending") > 0
    assert live.rows("SELECT 1 FROM transactions WHERE settled IS NULL") == []
    assert underwater(scene.net, scene.crowd) == set(), "the keeper goes on as ever"
