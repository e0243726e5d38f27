"""Draw every board from a live keeper in a crash: python -m tests.prometheus.pictures.

The keeper runs on the local chain, a real Prometheus scrapes it, and each panel shows what its own queries
answer. The pictures go to grafana/pictures; look at them before you commit them.
"""

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

from grafana.build import BOARDS
from keeper.chain.endpoint import connect
from keeper.devnet import Devnet
from keeper.devnet.chain import BLOCK_SECONDS
from tests.line import playing
from tests.prometheus.drawing import Series, draw
from tests.prometheus.server import JOB, scraping
from tests.prometheus.test_live import FEED, RELAY
from tests.prometheus.watching import watching
from tests.relay_stand_in import RelayStandIn

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "grafana" / "pictures"
UNPACK = ROOT / "tests" / "tools" / "prometheus.sh"
PRICES = (2_480, 2_460, 2_430, 2_400, 2_360, 2_330, 2_300, 2_240, 2_180, 2_120)
BLOCKS, SLIDE_SECONDS = 60, 5
"""About what the slide takes, in blocks of the chain and in seconds of ours."""


def filled(query: str, seconds: int) -> str:
    """Put in what Grafana would for a range of some seconds."""
    text = query.replace("$__range", f"{seconds}s").replace("$__rate_interval", "15s")
    text = text.replace("$__interval", "3s").replace("$job", JOB)
    return re.sub(r"\$\w+", ".*", text)


def legend(text: str, labels: Mapping[str, str]) -> str:
    """Return a series' legend as Grafana writes it."""
    if text == "__auto":
        shown = {name: value for name, value in labels.items() if name not in {"__name__", "job"}}
        return "  ".join(f"{name}={value[:12]}" for name, value in sorted(shown.items()))
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), text)


class Asking:
    """Answer a panel's targets from a Prometheus, over the time since the start."""

    def __init__(self, url: str, start: float, end: float) -> None:
        self._url = url
        self._start, self._end = start, end

    def __call__(self, target: Mapping[str, Any]) -> Sequence[Series]:
        """Return a target's series; an instant one has one value each."""
        query = filled(target["expr"], int(self._end - self._start))
        if target["instant"]:
            form = {"query": query, "time": self._end}
            page = "query"
        else:
            form = {"query": query, "start": self._start, "end": self._end, "step": 1}
            page = "query_range"
        with urlopen(f"{self._url}/api/v1/{page}?{urlencode(form)}") as answer:
            result = json.load(answer)["data"]["result"]
        found = []
        for each in result:
            points = each["values"] if "values" in each else [each["value"]]
            found.append(
                Series(
                    legend(target["legendFormat"], each["metric"]),
                    [float(moment) for moment, _ in points],
                    [float(value) for _, value in points],
                )
            )
        return sorted(found, key=lambda series: series.legend)


async def live(tools: Path, folder: Path) -> None:
    """Let a keeper live through a slide, and draw the boards."""
    key = folder / "relay.key"
    key.write_text("11" * 32, encoding="utf-8")
    with Devnet.start(seed=1) as net:
        # the chain's clock goes in steps of its own: it is let arrive near the wall's at the end
        net.rpc(
            "evm_setNextBlockTimestamp", int(time.time()) - BLOCKS * BLOCK_SECONDS + SLIDE_SECONDS
        )
        net.mine()
        net.borrowers(60, health=(1.01, 1.6), seed=3)
        net.borrowers(12, health=(1.01, 1.1), size_usd=(20, 60), seed=4)
        async with (
            connect(net.rpc_url, "devnet") as rpc,
            RelayStandIn(rpc) as relay,
            watching(folder) as watch,
            playing(net, folder, extra=RELAY.format(relay.url, key) + watch + FEED) as play,
        ):
            target = urlsplit(play.stage.keeper.server.address).netloc
            async with scraping(tools, folder, target) as prometheus:
                start = time.time()
                await prometheus.scraped(4)
                for price in PRICES:
                    await play.stage.step(lambda: net.set_price("WETH", price * 10**8))  # noqa: B023
                    await prometheus.scraped(2)
                    await relay.build(await asyncio.to_thread(net.chain.block_number) + 1)
                    await play.stage.mine(4)
                    await prometheus.scraped(2)
                await prometheus.scraped(3)
                asking = Asking(prometheus.url, start, time.time())
                for board in BOARDS:
                    path = PICTURES / f"{board.file}.png"
                    await asyncio.to_thread(draw, board.model(), asking, path)
                    print(f"{path.relative_to(ROOT)} {path.stat().st_size // 1000} kB")


def main() -> int:
    """Draw all boards."""
    done = subprocess.run([UNPACK], check=True, capture_output=True, text=True)
    with tempfile.TemporaryDirectory(prefix="keeper-pictures-") as folder:
        asyncio.run(live(Path(done.stdout.strip()), Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
