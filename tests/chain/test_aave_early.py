"""A market of Aave v3.0 on its real contracts: refused for the right reasons, liquidated in batches."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.calls import calldata
from keeper.devnet.chain import Transaction
from keeper.errors import ConfigError
from keeper.planning.size import batch_size
from keeper.protocols.aave_v3 import AaveV3
from keeper.protocols.aave_v3.special import DISCOUNT
from keeper.types import Log, NextBlock, Reason
from keeper.units import MAX_UINT256, RAY, WAD, Address, Hash, Wei, to_hex
from tests.aave import BLOCK_SECONDS, Following, found, state
from tests.chain.test_aave_market import configure, planted, unhealthy, upgraded
from tests.early_aave import compact_call, early_in_place, upgrade
from tests.first_atoken import put_first_atokens
from tests.line import assert_clean, playing

pytestmark = pytest.mark.chain

LIQUIDATION_CALL = "liquidationCall(address,address,address,uint256,bool)"
BORROW = "borrow(address,uint256,uint256,uint16,address)"
SUPPLY = "supply(address,uint256,address,uint16)"


@pytest.fixture(scope="module", autouse=True)
def early(devnet: Devnet) -> Iterator[None]:
    """Let every test here work on one market of v3.0."""
    with early_in_place(devnet):
        yield


@pytest.fixture
def following(net: Devnet) -> Following:
    return Following(net, net.market.pool)


@pytest.mark.parametrize("count", [1, 20, 50])
async def test_a_storm_is_over_within_two_blocks(net: Devnet, tmp_path: Path, count: int) -> None:
    crowd = net.borrowers(count, health=(1.01, 1.05), seed=count)
    dust = net.borrowers(2, health=(1.01, 1.05), size_usd=(20, 60), seed=count + 1)
    async with playing(net, tmp_path) as play:
        await play.stage.step(lambda: net.set_price("WETH", 2_300_00000000))
        assert len(play.under([*crowd, *dust])) == count + 2
        for _ in range(4):
            await play.stage.mine()
        play.assert_taken(crowd)
        assert play.under(crowd) == set()
        assert play.reasons(dust) == {Reason.UNPROFITABLE}
        assert_clean(play.tally)
        assert await play.audit() == []


def test_history_gives_what_is_loaded_and_an_audit_finds_one_unit(net: Devnet) -> None:
    net.borrowers(4, kind="five", health=(1.02, 1.4))
    net.borrowers(2, kind="emode")
    net.send(net.users[0].address, net.market.pool, "setUserEMode(uint8)", [1])
    loaded = Following(net, net.market.pool)
    assert (loaded.market.stopped, loaded.market.revision) == ("", 1)
    assert loaded.ledger.era.name == "3.0"
    assert loaded.market.backstops() == ()
    assert loaded.drifts() == []
    again = loaded.run(found(loaded.reader, Address(net.market.pool), loaded.head))
    again.restore(loaded.market.snapshot()())
    assert (state(again._ledger), again._ledger.era.name) == (state(loaded.ledger), "3.0")
    folded = Following(net, net.market.pool, from_genesis=True)
    assert state(folded.ledger) == state(loaded.ledger)
    for block in reversed(folded.blocks):
        folded.take_back(block.undos)
    assert not folded.ledger.reserves
    assert not len(folded.ledger.accounts)
    holder = next(iter(loaded.ledger.accounts))
    reserve = loaded.ledger.by_asset[Address(net.tokens["WETH"].address)]
    undo = loaded.ledger.set_supplied(holder, reserve, loaded.ledger.supplied(holder, reserve) + 1)
    assert len(loaded.drifts()) == 2
    undo()
    member = f"reserve 0x{loaded.ledger.reserves[0].asset.hex()}"
    assert planted(loaded) == [
        "flash premium",
        "sentinel",
        *(f"category 1 {name}" for name in ("ltv", "threshold", "bonus")),
        *(f"{member} {name} categories" for name in ("collateral", "borrowable")),
    ]


def test_the_first_atokens_tell_transfers_in_the_underlying(net: Devnet) -> None:
    """v3.0.0's have v3.0.1's revision, and what they tell of a transfer is not what it moves."""
    put_first_atokens(net)
    one, two = (account.address for account in net.users[:2])
    pool, weth = net.market.pool, net.tokens["WETH"]
    net.borrowers(2, collateral="USDC", debt="WETH", health=1.3)
    following = Following(net, pool)
    assert following.market.stopped == ""
    ledger = following.ledger
    reserve = ledger.by_asset[Address(weth.address)]
    assert all(each.tells_amounts for each in ledger.reserves.values())
    amount = 10 * WAD
    net.give("WETH", one, amount)
    net.send(one, weth.address, "approve(address,uint256)", [pool, amount])
    net.send(one, pool, SUPPLY, [weth.address, amount, one, 0])
    net.send(one, pool, "withdraw(address,uint256,address)", [weth.address, 7, one])
    following.follow()
    assert WAD * RAY // reserve.liquidity_index < WAD - 10**6, "or both forms are alike"
    before = state(ledger)
    for sent in (WAD + 1, 3, 5 * WAD + 7):
        net.send(one, weth.a_token, "transfer(address,uint256)", [two, sent])
    following.follow()
    for holder in (one, two):
        scaled = net.call(weth.a_token, "scaledBalanceOf(address)", [holder])
        assert ledger.supplied(Address(holder), reserve) == scaled > 0
    assert following.drifts() == []
    pages = list(following.market.snapshot()())
    again = following.run(found(following.reader, Address(pool), following.head))
    again.restore(pages)
    assert state(again._ledger) == state(ledger)
    for block in reversed(following.blocks[-3:]):
        following.take_back(block.undos)
    assert state(ledger) == before


def test_an_atoken_of_neither_kind_is_watched_and_not_sent_to(net: Devnet) -> None:
    upgraded(net, net.tokens["DAI"].a_token, "handleRepayment(address,uint256)", b"\x01")
    loaded = Following(net, net.market.pool)
    assert loaded.market.stopped.endswith("tells of transfers is not known")
    assert "\n" not in loaded.market.stopped


def test_an_isolated_position_with_a_siloed_debt_is_judged_as_any(following: Following) -> None:
    net, (user, *_) = following.net, [account.address for account in following.net.users]
    pool, silo, alone = net.market.pool, net.tokens["sUSDe"], net.tokens["PT"]
    configure(following, "setReserveBorrowing(address,bool)", silo.address, True)
    configure(following, "setSiloedBorrowing(address,bool)", silo.address, True)
    configure(following, "setBorrowableInIsolation(address,bool)", silo.address, True)
    amount = 20_000 * 10**18
    net.give("PT", user, amount)
    net.send(user, alone.address, "approve(address,uint256)", [pool, amount])
    net.send(user, pool, SUPPLY, [alone.address, amount, user, 0])
    net.send(
        user,
        pool,
        "setUserUseReserveAsCollateral(address,bool)",
        [alone.address, True],
        check=False,
    )
    net.send(user, pool, BORROW, [silo.address, 10_000 * 10**18, 2, 0, user])
    for symbol in ("USDC", "DAI"):
        refused = net.send(
            user, pool, BORROW, [net.tokens[symbol].address, 1, 2, 0, user], check=False
        )
        assert not refused.ok
    net.set_price("PT", net.price("PT") * 80 // 100, move_pools=False)
    following.follow()
    assert following.drifts() == []
    position = following.position(user)
    assert position.health == net.account_data(user)[5] < WAD
    (pair,), skips = following.pairs(user)
    assert (pair.collateral.symbol, pair.debt.symbol, skips) == ("PT", "sUSDe", [])


@pytest.mark.parametrize(("discount", "refused"), [(10, True), (0, False)])
def test_gho_is_an_ordinary_debt_while_nobody_has_a_discount(
    net: Devnet, discount: int, refused: bool
) -> None:
    """Only a discount of somebody who owes some bars the market, at the start or later."""
    (borrower,) = net.borrowers(1, collateral="WETH", debt="USDC", health=1.05)
    net.set_price("WETH", net.price("WETH") * 93 // 100, move_pools=False)
    token = net.tokens["USDC"].v_token
    upgraded(net, token, "getDiscountPercent(address)", bytes([discount]))
    following = Following(net, net.market.pool)
    pairs, skips = following.pairs(borrower)
    assert (len(pairs), len(skips)) == ((0, 1) if refused else (1, 0))
    assert following.drifts() == []
    market = following.market
    assert market.stopped.endswith("grow at a discount, which is not followed") is refused
    if refused:
        return
    for percent, stops in ((0, False), (1, True)):
        topics = (DISCOUNT, borrower.rjust(32, b"\0"), bytes([percent]).rjust(32, b"\0"))
        log = Log(Address(token), topics, bytes(32), following.head.number, Hash(bytes(32)), 0)
        assert DISCOUNT in market.watch().topics
        undo = market.fold(log)
        assert bool(market.stopped) is stops
        if undo is not None:
            undo()
        assert market.stopped == ""


def test_the_compact_call_of_a_rollup_does_the_same_and_saves_nothing_in_a_batch(
    following: Following,
) -> None:
    borrower = unhealthy(following)
    net, pool = following.net, following.net.market.pool
    weth, usdc = (
        following.ledger.by_asset[Address(net.tokens[symbol].address)].id
        for symbol in ("WETH", "USDC")
    )
    pair = [net.tokens[symbol].address for symbol in ("WETH", "USDC")]
    plain = calldata(LIQUIDATION_CALL, [*pair, borrower, MAX_UINT256, False])
    compact = compact_call(weth, usdc, borrower, MAX_UINT256, keep=False)
    outcomes = []
    for data in (plain, compact):
        before = net.snapshot()
        mined = net.chain.send_all([Transaction(Cast.RIVAL, pool, data)])[0]
        following.follow()
        outcomes.append((following.position(borrower).debt, mined.gas_used - intrinsic(data)))
        for block in reversed(following.blocks[-1:]):
            following.take_back(block.undos)
        net.revert(before)
        following.head = following.run(following.reader.head())
    (owed, gas), (owed_too, compact_gas) = outcomes
    assert owed == owed_too
    assert compact_gas > gas, "looking up two reserves by their ids costs more than it saves"
    items = [batch_size(3, 1, 1, 40, count, 9) for count in (1, 2)]
    assert items[1] - items[0] < len(compact), "a batch posts less for each borrower"


def intrinsic(data: bytes) -> int:
    """Return the gas a transaction pays for its data (EIP-2028)."""
    return sum(16 if byte else 4 for byte in data)


def test_a_debt_at_a_stable_rate_bars_its_borrower_alone(following: Following) -> None:
    net, (user, *_) = following.net, [account.address for account in following.net.users]
    (other,) = net.borrowers(1, collateral="WETH", debt="USDC", health=1.05)
    pool, usdc, weth = net.market.pool, net.tokens["USDC"], net.tokens["WETH"]
    configure(following, "setReserveStableRateBorrowing(address,bool)", usdc.address, True)
    amount = 10 * 10**18
    net.give("WETH", user, amount)
    net.send(user, weth.address, "approve(address,uint256)", [pool, amount])
    net.send(user, pool, SUPPLY, [weth.address, amount, user, 0])
    net.send(user, pool, BORROW, [usdc.address, 10**8, 2, 0, user])
    following.follow()
    start = state(following.ledger)
    steps: list[tuple[bytes, str, list[Any]]] = [
        (pool, BORROW, [usdc.address, 10**10, 1, 0, user]),
        (usdc.address, "approve(address,uint256)", [pool, MAX_UINT256]),
        (pool, "repay(address,uint256,uint256,address)", [usdc.address, 10**9, 1, user]),
        (pool, BORROW, [usdc.address, 2 * 10**9, 1, 0, user]),
        (pool, "repay(address,uint256,uint256,address)", [usdc.address, 1, 1, user]),
    ]
    for to, signature, args in steps:
        net.send(user, to, signature, args)
        following.follow()
        assert following.market.stopped == ""
        assert following.drifts() == []
        now = following.market.position(
            Address(user), following.prices, NextBlock(0, following.head.timestamp, Wei(0))
        )
        assert now is not None
        assert (now.debt_value, now.health) == (
            net.account_data(user)[1],
            net.account_data(user)[5],
        )
    loaded = Following(net, pool)
    assert state(loaded.ledger) == state(following.ledger)
    again = loaded.run(found(loaded.reader, Address(pool), loaded.head))
    again.restore(loaded.market.snapshot()())
    assert state(again._ledger) == state(loaded.ledger)
    net.set_price("WETH", 1_100 * 10**8, move_pools=False)
    following.follow()
    pairs, (skip,) = following.pairs(user)
    assert (pairs, skip.reason) == ([], Reason.DENIED)
    assert skip.detail.startswith("it has a debt at a stable rate")
    pairs, skips = following.pairs(other)
    assert (len(pairs), skips) == (1, [])
    repay = [usdc.address, MAX_UINT256, 1, user]
    net.give("USDC", user, 10**10)
    net.send(user, pool, "repay(address,uint256,uint256,address)", repay)
    following.follow()
    assert following.ledger.stable == {}
    for block in reversed(following.blocks[1:]):
        following.take_back(block.undos)
    assert state(following.ledger)["stable"] == start["stable"] == {}


@pytest.mark.parametrize(
    ("signature", "more", "reason"),
    [
        ("setReservePause(address,bool)", [True], Reason.PAUSED),
        ("setReserveActive(address,bool)", [False], None),
        ("setReserveFreeze(address,bool)", [True], None),
    ],
)
def test_a_reserve_that_takes_no_liquidation_is_named(
    following: Following, signature: str, more: list[bool], reason: Reason | None
) -> None:
    borrower = unhealthy(following)
    weth = following.net.tokens["WETH"].address
    if "Active" in signature:
        market = following.net.market
        sent = following.net.send(
            market.owner, market.configurator, signature, [weth, *more], check=False
        )
        assert not sent.ok
    else:
        configure(following, signature, weth, *more)
    found, skips = following.pairs(borrower)
    assert bool(found) == (reason is None)
    assert [skip.reason for skip in skips] == ([reason] if reason else [])
    assert following.drifts() == []


def test_a_fork_with_revisions_of_its_own_is_followed_and_sent_to_when_its_era_is_named(
    net: Devnet,
) -> None:
    (borrower,) = net.borrowers(1, collateral="WETH", debt="USDC", health=1.05)
    net.set_price("WETH", net.price("WETH") * 93 // 100, move_pools=False)
    upgraded(net, net.market.pool, "POOL_REVISION()", b"\x2a")
    unnamed = Following(net, net.market.pool)
    assert unnamed.drifts() == []
    pairs, (skip,) = unnamed.pairs(borrower)
    assert (pairs, skip.reason) == ([], Reason.DENIED)
    assert skip.detail == "the rules of pool revision 42 are not known"
    config = AaveV3.Config(pool=to_hex(net.market.pool), era="3.0")
    discovered = unnamed.run(AaveV3.discover(unnamed.reader, "main", config, unnamed.head))
    unnamed.run(discovered.bootstrap(unnamed.reader, unnamed.head))
    at = unnamed.at(BLOCK_SECONDS)
    position = discovered.position(Address(borrower), unnamed.prices, at)
    assert position is not None
    (pair,), skips = discovered.pairs(position, unnamed.prices, at)
    assert (pair.debt.symbol, discovered.stopped, skips) == ("USDC", "", [])
    upgrade(net)
    unnamed.follow()
    unnamed.run(discovered.bootstrap(unnamed.reader, unnamed.head))
    assert discovered.stopped == "pool revision 42 became 10: set its `era`, restart"


def test_an_era_that_is_not_the_pools_is_one_line(following: Following) -> None:
    pool = to_hex(following.net.market.pool)
    config = AaveV3.Config(pool=pool, era="3.6")
    with pytest.raises(ConfigError, match=r"does not answer as Aave v3\.6 does") as caught:
        following.run(AaveV3.discover(following.reader, "main", config, following.head))
    assert "\n" not in str(caught.value)


async def test_an_upgrade_in_place_changes_the_rules_and_loses_nobody(
    net: Devnet, tmp_path: Path
) -> None:
    crowd = [*net.borrowers(3, health=1.04, seed=21), *net.borrowers(2, health=1.5, seed=22)]
    async with playing(net, tmp_path) as play:
        book = play.stage.line.book
        protocol: Any = book.markets["aave"].protocol
        play.stage.line.upkeep.rebuilder._first_pause = 0.01
        assert protocol.revision == 1
        with capture_logs() as lines:
            await play.stage.step(lambda: upgrade(net))
            async with asyncio.timeout(20):
                while book.stopped:
                    await play.stage.mine()
        stops = [line for line in lines if line["event"] == "market.stopped"]
        assert "was replaced in block" in stops[0]["why"]
        assert (protocol.revision, protocol._ledger.era.name) == (10, "3.6")
        assert await play.audit() == []
        await play.stage.step(lambda: net.set_price("WETH", 2_300_00000000))
        await play.stage.mine(2)
        play.assert_taken(crowd[:3])
        assert_clean(play.tally)
        assert await play.audit() == []


def test_what_is_known_before_and_after_an_upgrade_is_the_chains(net: Devnet) -> None:
    who = [*net.borrowers(2, health=1.05), *net.borrowers(2, health=1.05, kind="emode")]
    before = Following(net, net.market.pool)
    upgrade(net)
    before.follow()
    assert "was replaced in block" in before.market.stopped
    before.run(before.market.bootstrap(before.reader, before.head))
    before.observe()
    assert (before.market.stopped, before.ledger.era.name) == ("", "3.6")
    net.mine(3, 86_400)
    net.set_price("WETH", 2_300_00000000, move_pools=False)
    before.follow()
    assert before.drifts() == []
    for borrower in who:
        assert before.position(borrower).health == net.account_data(borrower)[5]
    assert {each.kind for each in before.market.backstops()} == {"deficit"}


def test_a_category_with_prices_of_its_own_is_watched_and_not_sent_to(following: Following) -> None:
    net = following.net
    terms = [3, 9_000, 9_300, 10_200, net.tokens["DAI"].feed, "own price"]
    signature = "setEModeCategory(uint8,uint16,uint16,uint16,address,string)"
    configure(following, signature, *terms)
    why = "eMode category 3 has a price source of its own"
    assert following.market.stopped == why
    assert Following(net, net.market.pool).market.stopped == why
