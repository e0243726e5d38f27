"""Strategies that do harm inside a whole live keeper: nothing bad is sent, nothing good is missed."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keeper.devnet import Devnet
from keeper.devnet.operator import deploy_operator
from keeper.devnet.scenario import underwater
from keeper.units import to_hex
from tests.live import Live, living
from tests.plugins import harmful, write

pytestmark = pytest.mark.chain

VANDAL = harmful(
    "select",
    """if not view.at_risk:
    return []
import os, pathlib, re
done = pathlib.Path(__file__).with_suffix('.done')
count = len(done.read_text()) if done.exists() else 0
done.write_text('x' * (count + 1))
if count == 0:
    os._exit(0)
if count == 1:
    re.fullmatch('(a+)+b', 'a' * 64)
while count == 2:
    pass
return [object()]""",
)
"""Ends its process; blocks in C, holding the interpreter's lock; loops for ever; answers nonsense."""
DEEDS = 4
TIRED = """import pathlib
if pathlib.Path(__file__).with_suffix('.tired').exists():
    raise RuntimeError('no more')"""
LIAR = (
    harmful("bid", TIRED)
    .replace("Usd(self.config.minimum)", "Usd(0), None, None, True")
    .replace(
        "return Bid(Wei(10**8), Wei(300 * 10**9), view.next_block.timestamp + 24)",
        "return Bid(Wei(10**11), Wei(10**12), view.next_block.timestamp + 24, Wei(10**19))",
    )
)
"""Takes everything, dust too, whole, for nothing, and bids ten ether for it; when tired, it raises."""
HOSTILE = {"vandal": VANDAL, "liar": LIAR}


NOT_RELOADED = "strategies.not_reloaded"


@dataclass
class Scene:
    """A live keeper with good and hostile strategies, and borrowers who fall one after another."""

    live: Live
    file: Path
    wallet: bytes
    first: list[bytes]
    second: list[bytes]
    third: list[bytes]
    dust: list[bytes]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines of one event."""
        lines = self.live.output.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    def under(self, who: Sequence[bytes]) -> set[bytes]:
        """Return who of them is liquidatable by the protocol's own account."""
        return underwater(self.live.net, list(who))

    def disabled(self) -> set[str]:
        """Return the strategies switched off."""
        return {line["strategy"] for line in self.logged("strategy.disabled")}

    def until(self, condition: Callable[[], bool]) -> None:
        """Go on with heads until something holds: a program that was ended starts in its own time."""

        def is_so() -> bool:
            if not condition():
                self.live.block()
                return False
            return True

        self.live.until(is_so)

    def reload(self, text: str, event: str) -> dict[str, Any]:
        """Write the settings and ask for them, going on with heads until it is told of."""
        before = len(self.logged(event))
        self.file.write_text(text)
        os.kill(self.live.pid, signal.SIGHUP)
        self.live.blocks(2)
        self.live.until(lambda: len(self.logged(event)) > before)
        return self.logged(event)[-1]


@pytest.fixture
def scene(net: Devnet, tmp_path: Path) -> Iterator[Scene]:
    operator = deploy_operator(net)
    first = net.borrowers(2, health=1.03, size_usd=(20_000, 20_000), seed=51)
    second = net.borrowers(2, health=1.15, size_usd=(20_000, 20_000), seed=52)
    third = net.borrowers(1, health=1.30, size_usd=(20_000, 20_000), seed=53)
    dust = net.borrowers(2, health=1.03, size_usd=(20, 60), seed=54)
    home = tmp_path / "home"
    home.mkdir()
    tables = []
    for name, text in HOSTILE.items():
        write(home, text, name)
        tables.append(f"[strategies.{name}]\nuse = './{name}.py:Mine'\n")
    with living(net, operator, home, extra="\n".join(tables)) as live:
        wallet = operator.wallet.address
        yield Scene(live, home / "keeper.toml", wallet, first, second, third, dust)


def test_a_live_keeper_outlives_its_strategies_and_takes_others_without_losing_a_head(
    scene: Scene,
) -> None:
    live, text = scene.live, scene.file.read_text()
    pid = live.pid
    live.price(0.95)
    live.blocks(2)
    assert scene.under(scene.first) == set()
    done = scene.file.parent / "vandal.done"
    scene.until(lambda: scene.disabled() == {"vandal"})
    assert len(done.read_text()) >= DEEDS
    assert scene.under(scene.dust) == set(scene.dust), "dust costs more than it brings"

    (scene.file.parent / "liar.tired").touch()
    scene.until(lambda: scene.disabled() == {"vandal", "liar"})

    told = scene.reload(text.replace("min_profit_usd = 5", "min_profit_usd = -5"), NOT_RELOADED)
    assert "strategies.profitability.min_profit_usd" in told["why"]
    assert "\n" not in told["why"]
    live.price(0.88)
    live.blocks(2)
    assert scene.under(scene.second) == set(), "the old ones go on"

    alone = text[: text.index("[strategies.")]
    alone += "[strategies.calm]\nuse = 'profitability'\nmin_profit_usd = 1000000\n"
    assert scene.reload(alone, "strategies.reloaded")["strategies"] == ["calm"]
    live.price(0.88)
    live.blocks(2)
    assert scene.under(scene.third) == set(scene.third), "only the new one is asked"

    assert live.pid == pid
    assert live.deaths == 0
    assert live.drifts() == []
    nets = [int(net) for (net,) in live.rows("SELECT net_usd FROM receipts")]
    nonce = live.net.rpc("eth_getTransactionCount", to_hex(scene.wallet), "latest")
    assert len(nets) == int(nonce, 16) == 2
    assert min(nets) > 0
