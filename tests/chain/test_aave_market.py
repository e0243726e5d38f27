"""One market on the real contracts: found, loaded, followed, refused for the right reasons."""

import asyncio
import math
from dataclasses import fields, replace
from functools import partial

import pytest
from eth_abi.abi import encode

from keeper.chain.words import selector
from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.artifacts import compile_aave, load_own
from keeper.devnet.prices import aggregator_code
from keeper.errors import ConfigError
from keeper.protocols.aave_v3 import deployment
from keeper.protocols.aave_v3.ledger import Category
from keeper.types import FlashKind, Reason
from keeper.units import MAX_UINT256, WAD, Address, Bps
from tests.aave import BLOCK_SECONDS, Following, found, state

pytestmark = pytest.mark.chain

IMPLEMENTATION = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"


@pytest.fixture
def following(net: Devnet) -> Following:
    return Following(net, net.market.pool)


def unhealthy(following: Following, collateral: str = "WETH", debt: str = "USDC") -> bytes:
    """Open a borrower and let its collateral fall under the threshold."""
    net = following.net
    (borrower,) = net.borrowers(1, collateral=collateral, debt=debt, health=1.05, size_usd=50_000)
    net.set_price(collateral, net.price(collateral) * 93 // 100, move_pools=False)
    following.follow()
    assert following.position(borrower, BLOCK_SECONDS).health < WAD
    return borrower


def configure(following: Following, signature: str, *args: object) -> None:
    market = following.net.market
    following.net.send(market.owner, market.configurator, signature, args)
    following.follow()


@pytest.mark.parametrize(
    ("target", "message"), [("nobody", "no code"), ("token", "not an Aave"), ("oracle", "not an")]
)
def test_only_a_pool_is_a_market(net: Devnet, target: str, message: str) -> None:
    following = Following(net, net.market.pool)
    addresses = {"nobody": b"\x07" * 20, "token": net.tokens["DAI"].address}
    address = Address(addresses.get(target, net.market.oracle))
    with pytest.raises(ConfigError, match=message) as caught:
        asyncio.run(found(following.reader, address, following.head))
    assert "\n" not in str(caught.value)


def test_a_market_is_loaded_as_its_contracts_are(following: Following) -> None:
    net = following.net
    net.borrowers(12, kind="five", health=(1.02, 1.4))
    net.borrowers(6, kind="emode")
    loaded = Following(net, net.market.pool)
    assert loaded.drifts() == []
    assert loaded.market.borrowers() == 19
    assert {token.symbol for token in loaded.market.tokens().values()} == set(net.tokens)
    following.follow()
    assert state(following.ledger) == state(loaded.ledger)


def test_folding_all_history_gives_what_is_loaded(net: Devnet) -> None:
    net.borrowers(8, kind="five", health=(1.02, 1.4))
    net.borrowers(4, kind="emode")
    loaded, folded = (
        Following(net, net.market.pool),
        Following(net, net.market.pool, from_genesis=True),
    )
    assert state(folded.ledger) == state(loaded.ledger)
    assert folded.prices.values == loaded.prices.values
    for block in reversed(folded.blocks):
        folded.take_back(block.undos)
    assert not folded.ledger.reserves
    assert not len(folded.ledger.accounts)


def test_a_category_chosen_before_anything_is_held_counts_later(net: Devnet) -> None:
    (user, left), pool = (each.address for each in net.users[:2]), net.market.pool
    weth, staked = net.tokens["WETH"].address, net.tokens["wstETH"].address
    for who, category in ((user, 1), (left, 1), (left, 0)):
        net.send(who, pool, "setUserEMode(uint8)", [category])
    following = Following(net, pool)
    assert following.ledger.account(Address(user)).category == 1
    assert Address(left) not in set(following.ledger.accounts)
    net.give("wstETH", user, 10**19)
    net.send(user, staked, "approve(address,uint256)", [pool, MAX_UINT256])
    net.send(user, pool, "supply(address,uint256,address,uint16)", [staked, 10**19, user, 0])
    args = [weth, 10**19, 2, 0, user]
    net.send(user, pool, "borrow(address,uint256,uint256,uint16,address)", args)
    following.follow()
    assert following.position(user).health == net.account_data(user)[5]
    assert following.drifts() == []
    folded = Following(net, pool, from_genesis=True)
    assert state(folded.ledger) == state(following.ledger) == state(Following(net, pool).ledger)


def test_a_second_market_has_its_own_rules(net: Devnet) -> None:
    second = net.deploy_market()
    following = Following(net, second.pool)
    (borrower,) = net.borrowers(1, collateral="LINK", health=1.03, market=second)
    net.set_prices({"LINK": 13 * 10**8}, market=second, move_pools=False)
    following.follow()
    assert following.drifts() == []
    position = following.position(borrower)
    collateral, debt, *_, health = net.account_data(borrower, second)
    assert (position.collateral_value, position.debt_value) == (collateral, debt)
    assert position.health == health < WAD
    pairs, skips = following.pairs(borrower)
    assert not skips
    assert [(p.collateral.symbol, p.debt.symbol, p.bonus) for p in pairs] == [
        ("LINK", "USDC", 10_700)
    ]


def test_a_reserve_listed_while_following_is_kept(following: Following) -> None:
    net = following.net
    second = net.deploy_market()
    link = second.tokens["LINK"]
    market = net.market
    following.follow()
    weth = net.tokens["WETH"]
    supply_code, debt_code = (
        bytes.fromhex(
            net.rpc("eth_getStorageAt", "0x" + token.hex(), IMPLEMENTATION, "latest")[26:]
        )
        for token in (weth.a_token, weth.v_token)
    )
    rates = encode(["uint16", "uint32", "uint32", "uint32"], [8_000, 0, 400, 6_000])
    names = ["Aave LINK", "aLINK", "Aave debt LINK", "debtLINK"]
    entry = (supply_code, debt_code, link.address, *names, b"", rates)
    lender = net.users[0].address
    net.give("LINK", lender, 10**24, second)
    net.send(lender, link.address, "approve(address,uint256)", [market.pool, MAX_UINT256])
    following.follow()
    signature = "initReserves((address,address,address,string,string,string,string,bytes,bytes)[])"
    terms = "configureReserveAsCollateral(address,uint256,uint256,uint256)"
    supply = "supply(address,uint256,address,uint16)"
    with net.one_block():
        net.put(
            market.owner,
            market.oracle,
            "setAssetSources(address[],address[])",
            [[link.address], [link.feed]],
        )
        net.put(market.owner, market.configurator, signature, [[entry]], gas=8_000_000)
        net.put(market.owner, market.configurator, terms, [link.address, 6_000, 6_500, 10_800])
        net.put(lender, market.pool, supply, [link.address, 10**21, lender, 0], max_fee=10**11)
    following.follow()
    assert following.drifts() == []
    assert following.market.tokens()[Address(link.address)].symbol == "LINK"
    position = following.position(lender)
    assert position.collateral_value == net.account_data(lender)[0] > 0


def test_what_was_supplied_before_counts_when_it_is_borrowed_against(net: Devnet) -> None:
    user, pool = net.users[0].address, net.market.pool
    weth = net.tokens["WETH"].address
    net.give("WETH", user, 10**20)
    net.send(user, weth, "approve(address,uint256)", [pool, MAX_UINT256])
    net.send(user, pool, "supply(address,uint256,address,uint16)", [weth, 10**20, user, 0])
    following = Following(net, pool)
    before = following.market.borrowers()
    args = [net.tokens["USDC"].address, 10**10, 2, 0, user]
    net.send(user, pool, "borrow(address,uint256,uint256,uint16,address)", args)
    following.follow()
    assert following.market.borrowers() == before + 1
    position = following.position(user)
    collateral, debt, *_, health = net.account_data(user)
    assert (position.collateral_value, position.debt_value) == (collateral, debt)
    assert position.health == health


def test_a_paused_reserve_is_refused_and_its_grace_period_after(following: Following) -> None:
    borrower = unhealthy(following)
    asset = following.net.tokens["WETH"].address
    configure(following, "setReservePause(address,bool,uint40)", asset, True, 0)
    pairs, (skip,) = following.pairs(borrower)
    assert (pairs, skip.reason, skip.detail) == ([], Reason.PAUSED, "WETH is paused")
    configure(following, "setReservePause(address,bool,uint40)", asset, False, 3_600)
    pairs, (skip,) = following.pairs(borrower)
    assert (pairs, skip.reason) == ([], Reason.GRACE)
    following.net.mine(1, 3_600 - BLOCK_SECONDS)
    following.follow()
    assert following.pairs(borrower)[1]
    following.net.mine()
    following.follow()
    assert len(following.pairs(borrower)[0]) == 1
    following.net.liquidate_as_rival(borrower, "WETH", "USDC", 10**8)


def test_a_paused_debt_is_refused(following: Following) -> None:
    borrower = unhealthy(following)
    configure(
        following,
        "setReservePause(address,bool,uint40)",
        following.net.tokens["USDC"].address,
        True,
        0,
    )
    assert [skip.detail for skip in following.pairs(borrower)[1]] == ["USDC is paused"]
    assert following.market.flash_sources(Address(following.net.tokens["USDC"].address)) == ()


def test_a_sequencer_that_is_down_or_just_back_is_waited_for(following: Following) -> None:
    net, market = following.net, following.net.market
    borrower = unhealthy(following)
    sequencer = net.deploy(aggregator_code(load_own(), "sequencer", 0), market.owner)
    code = compile_aave(net._modules, net._progress)["PriceOracleSentinel"].linked({})
    code += encode(["address", "address", "uint256"], [market.provider, sequencer, 3_600])
    sentinel = net.deploy(code, market.owner)
    net.send(market.owner, market.provider, "setPriceOracleSentinel(address)", [sentinel])
    following.follow()
    following.observe()
    pairs, (skip,) = following.pairs(borrower)
    assert (pairs, skip.reason) == ([], Reason.GRACE)
    net.mine(1, 3_600)
    following.follow()
    assert len(following.pairs(borrower)[0]) == 1
    net.send(market.owner, sequencer, "set(int256)", [1])
    following.follow()
    pairs, (skip,) = following.pairs(borrower)
    assert (pairs, skip.reason, skip.detail) == (
        [],
        Reason.STALE_ORACLE,
        "the sequencer is down",
    )
    net.set_price("WETH", net.price("WETH") * 85 // 100, move_pools=False)
    following.follow()
    assert following.position(borrower, BLOCK_SECONDS).health < 95 * WAD // 100
    assert len(following.pairs(borrower)[0]) == 1
    net.send(market.owner, market.provider, "setPriceOracleSentinel(address)", [bytes(20)])
    following.follow()
    assert following.ledger.sentinel == bytes(20)


def test_a_thin_reserve_makes_the_size_smaller_and_a_dry_one_is_refused(
    following: Following,
) -> None:
    net = following.net
    borrower = unhealthy(following, collateral="WBTC")
    token = net.tokens["WBTC"]
    (pair,), _ = following.pairs(borrower)
    full = pair.legal_down(pair.maximum)
    left = pair.seize(full).received // 3
    borrow = "borrow(address,uint256,uint256,uint16,address)"

    def drain(left: int) -> None:
        amount = net.call(net.market.pool, "getVirtualUnderlyingBalance(address)", [token.address])
        args = [token.address, amount - left, 2, 0, Cast.ANCHOR]
        net.send(Cast.ANCHOR, net.market.pool, borrow, args)
        following.follow()

    drain(left)
    (pair,), _ = following.pairs(borrower)
    size = pair.legal_down(full)
    assert 0 < size < full
    assert pair.seize(size).received <= left
    drain(0)
    pairs, (skip,) = following.pairs(borrower)
    assert (pairs, skip.reason) == ([], Reason.NO_LIQUIDITY)


def test_a_flash_loan_is_offered_while_it_is_given(following: Following) -> None:
    net = following.net
    usdc = Address(net.tokens["USDC"].address)
    (source,) = following.market.flash_sources(usdc)
    premium = net.call(net.market.pool, "FLASHLOAN_PREMIUM_TOTAL()")
    available = net.call(net.market.pool, "getVirtualUnderlyingBalance(address)", [usdc])
    assert (source.kind, source.source) == (FlashKind.AAVE, net.market.pool)
    assert (source.available, source.fee_ppm) == (available, 100 * premium)
    configure(following, "updateFlashloanPremium(uint128)", 25)
    assert following.market.flash_sources(usdc)[0].fee_ppm == 2_500
    configure(following, "setReserveFlashLoaning(address,bool)", usdc, False)
    assert following.market.flash_sources(usdc) == ()
    assert following.market.flash_sources(Address(b"\x09" * 20)) == ()


def test_bad_debt_is_followed_until_it_is_covered(following: Following) -> None:
    net, market = following.net, following.net.market
    borrower = unhealthy(following)
    net.set_price("WETH", net.price("WETH") // 2, move_pools=False)
    net.liquidate_as_rival(borrower, "WETH", "USDC")
    following.follow()
    usdc = net.tokens["USDC"]
    reserve = following.ledger.by_asset[Address(usdc.address)]
    assert (
        reserve.deficit == net.call(market.pool, "getReserveDeficit(address)", [usdc.address]) > 0
    )
    assert following.position(borrower).debt == ()
    backstops = {each.token.symbol: each for each in following.market.backstops()}
    assert set(backstops) == set(net.tokens)
    for symbol, each in backstops.items():
        asset = net.tokens[symbol].address
        assert each.amount == net.call(market.pool, "getReserveDeficit(address)", [asset])
    assert {symbol for symbol, each in backstops.items() if each.amount} == {"USDC"}
    umbrella = net.users[0].address
    net.send(
        market.owner,
        market.provider,
        "setAddress(bytes32,address)",
        [b"UMBRELLA".ljust(32, b"\0"), umbrella],
    )
    net.give("USDC", umbrella, 2 * reserve.deficit)
    net.send(umbrella, usdc.address, "approve(address,uint256)", [market.pool, MAX_UINT256])
    args = [usdc.address, 2 * reserve.deficit, umbrella, 0]
    net.send(umbrella, market.pool, "supply(address,uint256,address,uint16)", args)
    args = [usdc.address, reserve.deficit]
    net.send(umbrella, market.pool, "eliminateReserveDeficit(address,uint256)", args)
    following.follow()
    assert reserve.deficit == 0
    assert following.drifts() == []


def test_an_unknown_revision_is_watched_and_never_liquidated_on(
    net: Devnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "era_of", lambda _: None)
    following = Following(net, net.market.pool)
    borrower = unhealthy(following)
    pairs, (skip,) = following.pairs(borrower)
    assert (pairs, skip.reason) == ([], Reason.DENIED)
    assert "revision 10" in skip.detail
    assert following.market.flash_sources(Address(net.tokens["USDC"].address)) == ()
    assert following.drifts() == []


def test_an_audit_finds_a_balance_that_is_off_by_one(following: Following) -> None:
    net = following.net
    ledger, anchor = following.ledger, Address(Cast.ANCHOR)
    number, owed = min(ledger.account(anchor).borrowed.items())
    reserve = ledger.reserves[number]
    undo = ledger.set_borrowed(anchor, reserve, owed + 1)
    for drift in (drifts := following.drifts()):
        assert drift.held == drift.actual + 1
    assert len(drifts) == 2
    undo()
    assert following.drifts() == []
    reserve = following.ledger.by_asset[Address(net.tokens["WBTC"].address)]
    reserve.configuration ^= 1
    assert [drift.subject.split()[-1] for drift in following.drifts()] == ["configuration"]


def test_an_audit_finds_terms_of_the_market_that_differ(following: Following) -> None:
    assert planted(following) == [
        "flash premium",
        "sentinel",
        *(f"category 1 {name}" for name in ("ltv", "threshold", "bonus")),
        *(f"category 1 {name}" for name in ("collateral", "borrowable", "ltv_zero")),
    ]


def planted(following: Following) -> list[str]:
    """Plant each difference in a market's terms, one after the other; return what audits name."""
    ledger, found = following.ledger, list[str]()
    category = ledger.categories[1]
    plants = [
        partial(ledger.set_flash_premium, Bps(ledger.flash_premium + 1)),
        partial(ledger.set_sentinel, Address(b"\7" * 20)),
    ]
    for each in fields(Category):
        other = replace(category, **{each.name: getattr(category, each.name) ^ 1})
        plants.append(partial(ledger.set_terms, 1, other))
    for plant in plants:
        undo = plant()
        found += [drift.subject for drift in following.drifts()]
        undo()
    assert following.drifts() == []
    return found


def test_the_target_is_the_pool_and_the_debt_token(following: Following) -> None:
    usdc = following.net.tokens["USDC"]
    target = following.market.liquidation_target(Address(usdc.address))
    assert target == (following.net.market.pool, usdc.v_token)


def test_a_position_without_a_price_is_not_judged(following: Following) -> None:
    borrower = unhealthy(following)
    weth = Address(following.net.tokens["WETH"].address)
    values = {asset: p for asset, p in following.prices.values.items() if asset != weth}
    prices = replace(following.prices, values=values)
    assert following.market.position(Address(borrower), prices, following.at()) is None
    collateral, debt = following.market.factors(prices, following.at())
    ((number, _),), ((owed, _),) = following.market.legs(Address(borrower))
    assert math.isnan(collateral[number])
    assert debt[owed] > 0
    assert math.isnan(debt[following.ledger.by_asset[weth].id])


def upgraded(net: Devnet, token: bytes, name: str, revision: bytes) -> None:
    """Let a token's implementation be of another revision, and otherwise as it was."""
    slot = net.rpc("eth_getStorageAt", "0x" + token.hex(), IMPLEMENTATION, "latest")
    implementation = "0x" + slot[26:]
    copy = b"\xc0" * 20
    net.rpc("anvil_setCode", "0x" + copy.hex(), net.rpc("eth_getCode", implementation, "latest"))
    push = bytes([0x5F + len(revision)]) + revision if revision else b"\x5f"
    answer = b"\x5b" + push + bytes.fromhex("5f5260205ff3" if revision else "5ffd")
    ask = bytes.fromhex("5f3560e01c63") + selector(name) + b"\x14\x60"
    passed = bytes.fromhex("57365f5f375f5f365f73") + copy + bytes.fromhex("5af43d5f5f3e60")
    ended = bytes.fromhex("573d5ffd5b3d5ff3")
    success = len(ask) + 1 + len(passed) + 1 + 4
    target = len(ask) + 1 + len(passed) + 1 + len(ended)
    code = ask + bytes([target]) + passed + bytes([success]) + ended + answer
    net.rpc("anvil_setCode", implementation, "0x" + code.hex())


@pytest.mark.parametrize(
    ("side", "name", "revision", "why"),
    [
        ("a_token", "ATOKEN_REVISION()", b"\x06", "of revision 6, are not known"),
        ("v_token", "DEBT_TOKEN_REVISION()", b"\x07", "of revision 7, are not known"),
        ("v_token", "DEBT_TOKEN_REVISION()", b"", "of no known kind, are not known"),
        ("v_token", "DEBT_TOKEN_REVISION()", b"\x06", ""),
    ],
)
def test_a_token_upgraded_while_nobody_looked_stops_its_market(
    net: Devnet, side: str, name: str, revision: bytes, why: str
) -> None:
    (borrower,) = net.borrowers(1, collateral="WETH", debt="USDC", health=1.05)
    net.set_price("WETH", net.price("WETH") * 93 // 100, move_pools=False)
    upgraded(net, getattr(net.tokens["USDC"], side), name, revision)
    following = Following(net, net.market.pool)
    assert following.market.stopped.endswith(why)
    assert bool(following.market.stopped) == bool(why)
    assert following.drifts() == []
    position = following.position(borrower, BLOCK_SECONDS)
    pairs, refusals = following.market.pairs(
        position, following.prices, following.at(BLOCK_SECONDS)
    )
    assert bool(pairs) != bool(why)
    assert {skip.reason for skip in refusals} == ({Reason.DENIED} if why else set())
