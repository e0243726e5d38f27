"""What the doctor says of a market's feeds, and which heartbeats it knows."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from keeper.doctor.check import State
from keeper.doctor.feeds import Seen, _beats, judge, judge_pools
from keeper.journal.feeds import FeedRow, feeds_in
from keeper.journal.sqlite import SqliteJournal
from keeper.oracles.record import written
from keeper.oracles.watch import Feed
from keeper.types import Token
from keeper.units import WAD, Address, Bps, to_hex

ETHER = Seen("WETH", 2_000 * WAD, 1_000, 3_600, 1_990 * WAD)
USDC = Seen("USDC", WAD, None, None, None)
WETH, DAI = (Token(Address(bytes([n]) * 20), name, 18) for n, name in ((1, "WETH"), (2, "DAI")))


def test_feeds_that_are_well_are_one_line() -> None:
    state, said, hint = judge([ETHER, USDC, replace(USDC, name="X", age=50)], Bps(1_000))
    assert (state, hint) == (State.OK, "")
    assert said.split(", ") == [
        "3 read",
        "the oldest round 1,000 s ago (WETH)",
        "1 tell no rounds",
        "at most 50 bps off the pools (WETH)",
        "2 without a deep pool",
    ]


@pytest.mark.parametrize(
    ("seen", "state", "said"),
    [
        ([], State.OK, "its prices are told of once it is loaded"),
        ([replace(ETHER, price=None)], State.WARN, "no price can be read"),
        ([ETHER, replace(USDC, price=None)], State.WARN, "USDC cannot be read"),
        ([replace(ETHER, age=5_400)], State.OK, "1 read"),
        (
            [replace(ETHER, age=5_401)],
            State.WARN,
            "WETH had no round for 5,401 s, with a heartbeat of 3,600 s",
        ),
        (
            [replace(ETHER, age=9**9, beat=None)],
            State.OK,
            "1 read, the oldest round 387,420,489 s",
        ),
        ([replace(ETHER, pool=1_800 * WAD)], State.WARN, "WETH is 1111 bps above the pools"),
        ([replace(ETHER, pool=2_500 * WAD)], State.WARN, "WETH is 2000 bps below the pools"),
    ],
)
def test_what_is_wrong_with_feeds_is_named(seen: list[Seen], state: State, said: str) -> None:
    found = judge(seen, Bps(1_000))
    assert (found[0], found[1][: len(said)]) == (state, said)


@pytest.mark.parametrize(
    ("watched", "tokens", "hops", "said"),
    [
        ({b"pool"}, [WETH, DAI], {WETH.address: ["a", "b"], DAI.address: ["b"]}, "2 that take one"),
        ({b"pool"}, [WETH, DAI], {}, "none takes any of 2 tokens"),
        ({b"pool"}, [WETH], {}, ""),
        ((), [WETH, DAI], {}, ""),
    ],
)
def test_a_venue_where_nothing_can_be_sold_is_named(
    watched: Any, tokens: list[Token], hops: dict[Address, list[str]], said: str
) -> None:
    class Shop:
        def watch(self) -> Any:
            return SimpleNamespace(addresses=watched)

        def hops(self, token: Address) -> list[Any]:
            return [SimpleNamespace(pool=pool) for pool in hops.get(token, [])]

    found = judge_pools(cast("Any", Shop()), [token.address for token in tokens])
    assert ("" if found is None else found[1])[: len(said) or None] == said
    assert (found is not None and found[0] is State.WARN) == said.startswith("none")


def test_a_heartbeat_is_the_settings_before_what_a_keeper_learned(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    assert feeds_in(path, "devnet") == []
    path.touch()
    assert feeds_in(path, "devnet") == [], "a journal of an older release knows of no feeds"
    feed = Feed(9_000, WAD, 0, 9_000, quiet=(7_200,) * 4)
    rows = [
        FeedRow("aave", to_hex(WETH.address), 9_000, written(feed)),
        FeedRow("aave", to_hex(DAI.address), 9_000, written(feed)),
        FeedRow("aave", to_hex(bytes(20)), 9_000, "{"),
        FeedRow("morpho/WETH-DAI", to_hex(bytes(20)), 9_000, written(feed)),
    ]
    journal = SqliteJournal(path, cast("Any", None), 90, lambda _: None)
    journal.open()
    journal.feeds.keep("devnet", lambda: rows, 0)
    journal.close()
    said = {"WETH": 3_600, "GONE": 60}
    feeds = {name: SimpleNamespace(heartbeat_seconds=beat) for name, beat in said.items()}
    chain: Any = SimpleNamespace(markets={"aave": None}, feeds=feeds)
    tokens = {token.address: token for token in (WETH, DAI)}
    found = _beats("devnet", chain, tokens, path)
    assert found == {WETH.address: 3_600, DAI.address: 7_200}
