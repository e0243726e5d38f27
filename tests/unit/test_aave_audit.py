"""What an audit of an Aave v3 market asks is what its era answers."""

from collections.abc import Sequence
from typing import Any

import pytest

from keeper.chain.words import selector, words
from keeper.protocols.aave_v3.audit import audit
from keeper.protocols.aave_v3.deployment import Deployment
from keeper.protocols.aave_v3.eras import ERAS
from keeper.protocols.aave_v3.ledger import Category, Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.types import Call, CallResult, Head
from keeper.units import Address, Bps, Hash, Wei

POOL, PROVIDER, ASSET, SUPPLY, DEBT = (Address(bytes([n]) * 20) for n in range(10, 15))
HEAD = Head(7, Hash(b"\7" * 32), Hash(b"\6" * 32), 1_700_000_000, Wei(0), 0, 0)
CONFIG = "getEModeCategoryCollateralConfig(uint8)"
COLLATERAL, BORROWABLE, LTV_ZERO = (
    f"getEModeCategory{name}Bitmap(uint8)" for name in ("Collateral", "Borrowable", "Ltvzero")
)
EARLY = {"getEModeCategoryData(uint8)", "getPriceOracleSentinel()"}
LIQUID = {CONFIG, COLLATERAL, BORROWABLE, "getPriceOracleSentinel()"}
LAST = {CONFIG, COLLATERAL, BORROWABLE, LTV_ZERO}
ALWAYS = {"FLASHLOAN_PREMIUM_TOTAL()", "getReserveData(address)", "scaledTotalSupply()"}


class Empty:
    """A node that answers every read with noughts, and remembers the reads."""

    def __init__(self) -> None:
        self.asked: list[Call] = []

    async def multicall(self, calls: Sequence[Call], _block: Hash) -> list[CallResult]:
        self.asked += calls
        return [CallResult(True, words(*[0] * 15)) for _ in calls]


@pytest.mark.parametrize(
    ("era", "own"),
    [
        *((era, EARLY) for era in ("3.0", "3.1")),
        *((era, LIQUID) for era in ("3.2", "3.3", "3.4", "3.5")),
        ("3.6", LAST | {"getPriceOracleSentinel()"}),
        ("3.7", LAST),
    ],
)
async def test_terms_are_asked_as_the_era_answers_them(era: str, own: set[str]) -> None:
    ledger = Ledger("main", era=ERAS[era], flash_premium=Bps(5), sentinel=ASSET)
    ledger.list_reserve(Reserve(0, ASSET, SUPPLY, DEBT, 1 << 168, era=ERAS[era]))
    ledger.categories[1] = Category(Bps(90), Bps(93), Bps(102), 1, 1, 1)
    node: Any = Empty()
    rules = Deployment(POOL, PROVIDER, POOL, POOL, 1, ERAS[era])
    drifts = await audit(node, ledger, rules, HEAD, 10, 1)
    assert {call.data[:4] for call in node.asked} == set(map(selector, own | ALWAYS))
    found = {drift.subject: (drift.held, drift.actual) for drift in drifts}
    assert found["flash premium"] == (5, 0)
    assert found["category 1 threshold"] == (93, 0)
    assert ("sentinel" in found) == (era != "3.7")
    assert ("category 1 ltv_zero" in found) == (LTV_ZERO in own)
    members = {name for name in found if name.endswith(("collateral", "collateral categories"))}
    early = f"reserve 0x{ASSET.hex()} collateral categories"
    assert members == {early if own is EARLY else "category 1 collateral"}
