"""What the contract has of its own: what the owner keeps, nothing unread, read with each head's prices."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from keeper.app.inventory import Stockroom, make_inventory
from keeper.app.looking import HEADS
from keeper.conditions import Conditions
from keeper.config.inventory import InventoryTable
from keeper.engine import Report
from keeper.errors import TransientError
from keeper.fees import Inclusion
from keeper.planning.inventory import Inventory
from keeper.planning.owner_calls import encode_kept
from keeper.types import Call, CallResult
from keeper.units import Address, Bps
from tests.fake_market import CONTRACT, DAI, TOKENS, USDC, WETH, view

MISSING = CallResult(False, b"")
WHOLE = Bps(10_000)


def words(*values: int | None) -> list[CallResult]:
    return [MISSING if n is None else CallResult(True, n.to_bytes(32, "big")) for n in values]


def inventory(share: int = 10_000, *, loose: bool = False) -> Inventory:
    made = Inventory(CONTRACT, Bps(share), loose=loose)
    made.follow([USDC.address, WETH.address])
    return made


def test_only_the_contract_is_asked() -> None:
    calls = inventory().calls()
    assert [call.target for call in calls] == [USDC.address, CONTRACT, WETH.address, CONTRACT]
    assert [call.data[-20:] for call in calls[::2]] == [CONTRACT, CONTRACT]
    assert [call.data for call in calls[1::2]] == [
        encode_kept(USDC.address),
        encode_kept(WETH.address),
    ]


@pytest.mark.parametrize(
    ("told", "kept", "loose"),
    [
        ((100, 60, 7, 0), {USDC: 60}, {USDC: 100, WETH: 7}),
        ((50, 60, 0, 9), {USDC: 50}, {USDC: 50}),
        ((None, 60, 8, 8), {WETH: 8}, {WETH: 8}),
        ((50, None, 8, 8), {WETH: 8}, {USDC: 50, WETH: 8}),
        ((), {}, {}),
        ((5, 5), {USDC: 5}, {USDC: 5}),
        ((5, 5, 5), {USDC: 5}, {USDC: 5}),
    ],
)
def test_what_is_not_kept_or_not_read_is_not_there(told: Any, kept: Any, loose: Any) -> None:
    results = words(*told)
    assert inventory().usable(results) == {each.address: n for each, n in kept.items()}
    assert inventory(loose=True).usable(results) == {each.address: n for each, n in loose.items()}


def test_what_is_swept_or_sold_just_now_is_not_counted_on() -> None:
    leaving = {USDC.address}
    for loose, expected in ((True, {WETH.address: 7}), (False, {USDC.address: 5, WETH.address: 7})):
        made = Inventory(CONTRACT, WHOLE, loose=loose, leaving=lambda: leaving)
        made.follow([USDC.address, WETH.address])
        assert made.usable(words(9, 5, 7, 7)) == expected
        assert made.read([USDC.address], words(9, 5)), "it is followed all the same"


def test_an_answer_too_short_is_none() -> None:
    assert inventory().usable([CallResult(True, b"\x01" * 31), *words(5, 5, 5)]) == {
        WETH.address: 5
    }


def test_a_share_is_rounded_down() -> None:
    assert inventory(3_333).usable(words(10, 10, 2, 2)) == {USDC.address: 3}


def test_answers_to_an_earlier_list_are_the_first_of_a_later_one() -> None:
    made = inventory()
    asked = list(made.calls())
    assert made.follow([WETH.address, DAI.address]) == [DAI.address]
    assert list(made.calls())[: len(asked)] == asked
    assert made.usable(words(1, 1, 2, 2)) == {USDC.address: 1, WETH.address: 2}
    assert made.usable(words(1, 1, 2, 2, 3, 3))[DAI.address] == 3
    assert made.known([DAI.address, WETH.address], asked) == [WETH.address]
    assert made.known([WETH.address], asked[:3]) == [], "half of it is not enough"


def test_it_is_read_behind_what_a_rollup_charges() -> None:
    conditions = Conditions(Inclusion.ARBITRUM, None, None, inventory())
    fees = len(Conditions(Inclusion.ARBITRUM).calls())
    assert list(conditions.calls())[fees:] == list(inventory().calls())
    prices = CallResult(True, b"".join(n.to_bytes(32, "big") for n in (1, 2, 3, 4, 5, 6)))
    seen = conditions.complete(view(), [prices, *words(9, 9, None, 5)])
    assert seen.inventory == {USDC.address: 9}
    assert seen.data_fee is not None
    assert Conditions().complete(view(), []).inventory == {}


@dataclass
class Contract:
    """Answers for each token what is there and what is kept."""

    held: dict[Address, tuple[int, int]] = field(default_factory=dict)
    is_down: bool = False

    async def multicall(self, calls: Sequence[Call], block: object = None) -> list[CallResult]:
        if self.is_down:
            raise TransientError("no answer")
        return [
            result
            for call in calls[::2]
            for result in words(*self.held.get(call.target, (None, None)))
        ]


async def test_capital_that_comes_later_is_found_beside_the_line() -> None:
    contract = Contract({USDC.address: (5, 5), WETH.address: (7, 0)})
    reader: Any = contract
    found = Inventory(CONTRACT, WHOLE, loose=False)
    listed = {token.address: token for token in TOKENS}
    room = Stockroom("test", reader, found, lambda: listed)
    with structlog.testing.capture_logs() as logs:
        await room.read()
        await room.read()
    assert [(each["event"], each["tokens"]) for each in logs] == [("inventory.found", ["USDC"])]

    async def heads() -> None:
        for _ in range(HEADS):
            room.observe(Report(view()))
        assert room._looking._task is not None
        await room._looking._task

    contract.held[WETH.address] = (7, 7)
    contract.is_down = True
    await heads()
    assert len(found.calls()) == 2, "a look that got no answer changes nothing"
    contract.is_down = False
    await heads()
    assert len(found.calls()) == 4
    contract.held[WETH.address] = (0, 0)
    await heads()
    assert len(found.calls()) == 4, "what is followed stays"
    room.observe(Report(view()))
    await room.close()
    await asyncio.sleep(0)


def test_it_is_used_unless_the_settings_say_no() -> None:
    def made(contract: Address | None, settings: Mapping[str, Any]) -> Inventory | None:
        table = InventoryTable.model_validate(settings)
        chain: Any = SimpleNamespace(contract=contract, inventory=table)
        return make_inventory(chain)

    assert made(None, {}) is None
    assert made(CONTRACT, {"use": "off"}) is None
    told = words(8, 4)
    for settings, expected in (({}, 4), ({"share": "0.5"}, 2), ({"use": "all"}, 8)):
        found = made(CONTRACT, settings)
        assert found is not None
        found.follow([USDC.address])
        assert found.usable(told) == {USDC.address: expected}
    for wrong in ({"share": 0}, {"share": "1.01"}, {"use": "some"}):
        with pytest.raises(ValueError, match="1 validation error"):
            made(CONTRACT, wrong)
