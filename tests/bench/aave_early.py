"""Aave v3.0: folding its logs, and gas of liquidations beside a bare one."""

import json
import time
from statistics import median

from keeper.devnet import Devnet
from keeper.types import Undo
from tests.aave import Following
from tests.bench.gas import bare, crash, measured, one_sale, put_back
from tests.chain.contract.stage import deploy
from tests.early_aave import early_in_place

BORROWERS = 200
ROUNDS = 15


def figures(net: Devnet) -> dict[str, float]:
    """Return gas per liquidation, and microseconds to apply one log of a block full of borrowers."""
    with early_in_place(net):
        found: dict[str, float] = {"aave_v30_fold_us_per_log": folded(net)}
        with put_back(net):
            stage = deploy(net)
            found["aave_v30_gas_bare"] = bare(stage).gas
            for count in (1, 20):
                with put_back(net):
                    batch = one_sale(stage, crash(stage, count))
                    row = measured(stage, "one sale", batch)
                    found[f"aave_v30_gas_per_liquidation_{count}"] = row.each
        return found


def folded(net: Devnet) -> float:
    """Fold the same blocks again and again; return microseconds a log."""
    with put_back(net):
        following = Following(net, net.market.pool)
        net.borrowers(BORROWERS, kind="five", health=(1.1, 1.5))
        following.follow()
        logs = [log for block in following.blocks for log in block.logs]
        for block in reversed(following.blocks):
            following.take_back(block.undos)
        took = []
        for _ in range(ROUNDS):
            undos: list[Undo] = []
            start = time.perf_counter()
            following.market.fold_all(iter(logs), undos)
            took.append(time.perf_counter() - start)
            for undo in reversed(undos):
                undo()
        return round(1e6 * median(took) / len(logs), 2)


def main() -> None:
    """Print the measurements as JSON."""
    with Devnet.start() as net:
        print(json.dumps(figures(net), indent=1))


if __name__ == "__main__":
    main()
