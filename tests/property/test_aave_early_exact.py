"""The ledger of a v3.0 market equals the real contracts to the wei, whatever anybody does.

The same machine as for v3.6 acts on `L2Pool` of core-v3, which forks such as SparkLend stand on:
balances round to the nearest unit, one reserve's debt is closed by half or whole, nothing is written
off, and each reserve is in one eMode category at most.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from keeper.devnet import Devnet
from keeper.protocols.aave_v3 import deployment, eras
from keeper.protocols.aave_v3.fixed import ray_mul_down
from tests.early_aave import early_in_place
from tests.property.test_aave_exact import RULES, Exact, play

pytestmark = pytest.mark.chain

SEEDS = (11, 23, 37, 53)
RUNS = 7
ZERO = bytes(20)


class Early(Exact):
    """Acts on v3.0, whose owners change other things."""

    def changes(
        self, asset: bytes, number: int, category: int, on: bool
    ) -> list[tuple[str, list[Any]]]:
        threshold = 6_500 + 10 * number
        terms = [category, 8_500, 9_000 + number, 10_050 + number, ZERO, "changed"]
        return [
            (
                "configureReserveAsCollateral(address,uint256,uint256,uint256)",
                [asset, threshold - 200, threshold, 10_100 + 10 * number],
            ),
            ("setLiquidationProtocolFee(address,uint256)", [asset, 25 * number]),
            ("setReserveFactor(address,uint256)", [asset, 50 * number]),
            ("setBorrowCap(address,uint256)", [asset, 10**9 + number]),
            ("setSupplyCap(address,uint256)", [asset, 10**10 + number]),
            ("setUnbackedMintCap(address,uint256)", [asset, number]),
            ("setSiloedBorrowing(address,bool)", [asset, False]),
            ("setBorrowableInIsolation(address,bool)", [asset, on]),
            ("setEModeCategory(uint8,uint16,uint16,uint16,address,string)", terms),
            ("setAssetEModeCategory(address,uint8)", [asset, category if on else 0]),
            ("setReserveFreeze(address,bool)", [asset, True]),
            ("updateFlashloanPremiumTotal(uint128)", [number]),
            ("setReservePause(address,bool)", [asset, True]),
        ]

    def screened(self, health: float, exact: float) -> None:
        # The contract's average threshold is in whole bps: the screen may be early, never late.
        assert exact * (1 - 4e-4) <= health <= exact * (1 + 1e-5)


@pytest.fixture(scope="module", autouse=True)
def early(devnet: Devnet) -> Iterator[None]:
    """Let every test here work on one market of v3.0."""
    with early_in_place(devnet):
        yield


@pytest.mark.timeout(280)
def test_the_ledger_equals_the_contracts(
    net: Devnet, record_property: Callable[[str, object], None]
) -> None:
    done: Counter[str] = Counter()
    for number in SEEDS:
        before = net.snapshot()
        done.update(play(Early, net, number, RUNS))
        net.revert(before)
    record_property("steps", dict(done))
    assert set(done) == RULES
    assert done.total() >= 200
    assert min(done.values()) >= 5
    assert done["liquidate"] >= 10


@pytest.mark.parametrize(
    "change",
    [
        {"supply_balance": ray_mul_down},
        {"debt_value": eras.V35.debt_value},
        {"health": eras.V35.health},
        {"compounded": eras.V34.compounded},
    ],
    ids=lambda change: next(iter(change)),
)
def test_one_rounding_the_other_way_is_found(
    net: Devnet, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    flipped = replace(eras.V30, **change)
    monkeypatch.setattr(deployment, "era_of", lambda _: flipped)
    with pytest.raises(AssertionError):
        play(Early, net, SEEDS[0], 3)
