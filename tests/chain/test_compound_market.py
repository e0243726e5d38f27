"""Venus followed by its logs: what stops it, what it refuses, and what it says of wrong addresses."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from keeper.chain.codes import IMPLEMENTATION_SLOT
from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.devnet.chain import Transaction
from keeper.devnet.venus import WAD, Venus, deploy_venus
from keeper.errors import ConfigError, InvariantError, UndecodableError
from keeper.protocols.compound_v2 import CompoundV2, events
from keeper.protocols.compound_v2.events import UPGRADED
from keeper.types import Log, Reason, Skip
from keeper.units import Address, Hash, Wad, to_hex
from tests.aave import DirectRpc
from tests.venus import FollowingVenus, state

pytestmark = pytest.mark.chain


@pytest.fixture(scope="module")
def venus(devnet: Devnet) -> Iterator[Venus]:
    """Venus with one borrower of USDC against WETH, and one of WETH against WBTC."""
    before = devnet.snapshot()
    found = deploy_venus(devnet.chain, devnet.market, lambda _: None)
    first, second = devnet.users[0].address, devnet.users[1].address
    devnet.give("WBTC", second, 10**8)
    sent = [*found.supply(first, "WETH", 10 * WAD), found.borrow(first, "USDC", 19_000 * 10**6)]
    sent += [*found.supply(second, "WBTC", 10**8), found.borrow(second, "WETH", 16 * WAD)]
    devnet.chain.send_all(sent)
    yield found
    devnet.revert(before)


@pytest.fixture
def followed(devnet: Devnet, venus: Venus) -> Iterator[FollowingVenus]:
    """The market as loaded at the head; the chain is set back to it."""
    before = devnet.snapshot()
    yield FollowingVenus(devnet, venus)
    devnet.revert(before)


def crash(followed: FollowingVenus) -> None:
    """Let WETH fall under the first borrower's threshold."""
    followed.net.set_price("WETH", followed.net.price("WETH") * 8 // 10, move_pools=False)
    followed.follow()


def refusals(followed: FollowingVenus, borrower: bytes) -> list[Skip]:
    position = followed.at_next(borrower)
    assert position.health < WAD
    found, skips = followed.market.pairs(position, followed.prices, followed.later())
    assert not found
    return list(skips)


def configure(followed: FollowingVenus, to: bytes, signature: str, args: list[Any]) -> None:
    followed.net.send(followed.venus.owner, to, signature, args)
    followed.follow()


Act = Callable[[FollowingVenus], None]
COMPTROLLER = "_setActionsPaused(address[],uint8[],bool)"


def _pause(symbol: str, action: int) -> Act:
    def act(followed: FollowingVenus) -> None:
        args = [[followed.venus.vtokens[symbol]], [action], True]
        configure(followed, followed.venus.comptroller, COMPTROLLER, args)

    return act


def _pause_all(followed: FollowingVenus) -> None:
    configure(followed, followed.venus.comptroller, "_setProtocolPaused(bool)", [True])


def _restrict(followed: FollowingVenus) -> None:
    borrower = followed.net.users[0].address
    configure(followed, followed.venus.liquidator, "restrictLiquidation(address)", [borrower])


def _replace(followed: FollowingVenus) -> None:
    around = followed.venus.around
    configure(followed, followed.venus.comptroller, "_setComptrollerLens(address)", [around])


@pytest.mark.parametrize(
    ("act", "reason", "detail"),
    [
        (_pause("USDC", 5), Reason.PAUSED, "vUSDC is paused: liquidating"),
        (_pause("USDC", 3), Reason.PAUSED, "vUSDC is paused: repaying"),
        (_pause("WETH", 4), Reason.PAUSED, "vWETH is paused: seizing"),
        (_pause("WETH", 1), Reason.PAUSED, "vWETH is paused: redeeming"),
        (_pause("WETH", 6), Reason.PAUSED, "vWETH is paused: transfers"),
        (_pause_all, Reason.PAUSED, "the comptroller is paused"),
        (_restrict, Reason.DENIED, "the liquidator contract allows only chosen liquidators"),
        (_replace, Reason.DENIED, "markets, pools, code or contracts were changed"),
    ],
)
def test_what_is_shut_is_refused_in_words(
    followed: FollowingVenus, act: Act, reason: Reason, detail: str
) -> None:
    crash(followed)
    borrower = followed.net.users[0].address
    found, skips = followed.market.pairs(
        followed.at_next(borrower), followed.prices, followed.later()
    )
    assert (len(found), list(skips)) == (1, [])
    before = state(followed.ledger)
    act(followed)
    (skip,) = refusals(followed, borrower)
    assert skip.reason == reason
    assert detail in skip.detail
    followed.take_back(followed.blocks[-1].undos)
    assert state(followed.ledger) == before


def reload(followed: FollowingVenus) -> CompoundV2:
    """Load the market anew at the head, as a part of the book that stopped is."""
    market = followed.market
    asyncio.run(market.bootstrap(followed.reader, asyncio.run(followed.reader.head())))
    return market


def test_code_that_nobody_looked_at_is_never_sent_to(followed: FollowingVenus) -> None:
    """A market that stopped is loaded again under its old rules only if its code is the old code."""
    venus, net = followed.venus, followed.net
    market = followed.market
    followed.ledger.stop("a market was listed")
    assert reload(followed).stopped == ""
    before = net.snapshot()
    configure(followed, venus.comptroller, "_setComptrollerLens(address)", [venus.around])
    why = reload(followed).stopped
    assert f"the code of 0x{venus.comptroller.hex()} was replaced: review it, then set code" in why
    assert "\n" not in why
    accepted = why.split('"')[1]
    assert market.borrowers() == 2
    pages = list(market.snapshot()())
    again = loaded(followed)
    assert again.stopped == "", "a first start takes the code as it is"
    again.restore(pages)
    assert again.stopped == why, "a restart does not"
    asyncio.run(again.bootstrap(followed.reader, asyncio.run(followed.reader.head())))
    assert again.stopped == why
    named = loaded(followed, accepted)
    named.restore(pages)
    assert named.stopped == ""
    wrong = loaded(followed, "0x0000000000000000")
    assert "is not the code that was reviewed" in wrong.stopped
    net.revert(before)


def test_venus_liquidator_is_a_proxy_whose_code_is_watched(followed: FollowingVenus) -> None:
    venus, net = followed.venus, followed.net
    upgraded = Log(
        Address(venus.liquidator),
        (UPGRADED, bytes(32)),
        b"",
        followed.head.number,
        Hash(bytes(32)),
        0,
    )
    assert upgraded.address in followed.market.watch().addresses
    assert UPGRADED in followed.market.watch().topics
    undo = followed.market.fold(upgraded)
    assert "liquidator contract" in followed.market.stopped
    assert undo is not None
    undo()
    assert followed.market.stopped == ""
    slot = net.rpc("eth_getStorageAt", to_hex(venus.liquidator), hex(IMPLEMENTATION_SLOT), "latest")
    logic = "0x" + slot[26:]
    net.rpc("anvil_setCode", logic, net.rpc("eth_getCode", logic, "latest") + "00")
    net.rpc("anvil_mine", "0x1")
    assert f"the code of 0x{venus.liquidator.hex()} was replaced" in reload(followed).stopped


def test_a_ctoken_whose_code_changed_harms_who_entered_it_alone(followed: FollowingVenus) -> None:
    venus, net = followed.venus, followed.net
    code = net.rpc("eth_getCode", to_hex(venus.vtokens["WBTC"]), "latest")
    net.rpc("anvil_setCode", to_hex(venus.vtokens["WBTC"]), code + "00")
    net.rpc("anvil_mine", "0x1")
    assert reload(followed).stopped == ""
    followed.follow()
    first, second = (Address(user.address) for user in net.users[:2])
    for borrower, told in ((first, False), (second, True)):
        position = replace(followed.at_next(borrower), health=Wad(WAD - 1))
        _, skips = followed.market.pairs(position, followed.prices, followed.later())
        assert any("was replaced" in skip.detail for skip in skips) is told


def loaded(followed: FollowingVenus, code: str = "") -> CompoundV2:
    """Load the market as a keeper that starts does."""
    config = CompoundV2.Config(comptroller=Address(followed.venus.comptroller), code=code)

    async def load() -> CompoundV2:
        head = await followed.reader.head()
        market = await CompoundV2.discover(followed.reader, "venus", config, head)
        await market.bootstrap(followed.reader, head)
        return market

    return asyncio.run(load())


def test_a_price_that_is_not_there_is_not_zero(followed: FollowingVenus) -> None:
    borrower = followed.net.users[0].address
    followed.venus.fix_price("WETH", 0)
    followed.follow()
    weth = Address(followed.net.tokens["WETH"].address)
    assert weth not in followed.prices.values
    assert followed.market.position(Address(borrower), followed.prices, followed.later()) is None
    with pytest.raises(LookupError):
        followed.venus.liquidity(borrower)


def test_a_planted_drift_is_found(followed: FollowingVenus) -> None:
    assert followed.drifts() == []
    borrower, ledger = Address(followed.net.users[0].address), followed.ledger
    owed = next(each for each in ledger.ctokens if borrower in each.debts)
    held = next(each for each in ledger.ctokens if borrower in each.balances)
    principal, index = owed.debts[borrower]
    name = f"holder 0x{borrower.hex()}"
    owed.debts[borrower] = (principal + 1, index)
    assert [drift.subject for drift in followed.drifts()] == [f"{name} debt of vUSDC"]
    owed.debts[borrower] = (principal, index)
    held.balances[borrower] -= 1
    (drift,) = followed.drifts()
    assert (drift.subject, drift.actual - drift.held) == (f"{name} vWETH", 1)
    held.balances[borrower] += 1
    ledger.entered[borrower] ^= 1 << held.id
    assert [drift.subject for drift in followed.drifts()] == [f"{name} membership of vWETH"]
    ledger.entered[borrower] ^= 1 << held.id
    assert followed.drifts() == []
    core = held.terms[0]
    for wrong in (replace(core, threshold=Wad(1)), replace(core, incentive=Wad(1))):
        held.terms[0] = wrong
        (drift,) = followed.drifts()
        assert drift.subject.startswith(f"cToken 0x{held.address.hex()} ")
        assert (drift.held, drift.actual in {core.threshold, core.incentive}) == (1, True)
    held.terms[0] = core
    owed.index += 1
    assert any("borrowIndex" in drift.subject for drift in followed.drifts())


def test_reserves_are_what_the_contracts_say(followed: FollowingVenus) -> None:
    followed.net.rpc("anvil_mine", hex(20))
    followed.venus.accrue()
    followed.follow()
    told = {each.token.symbol: each for each in followed.market.backstops()}
    for symbol, vtoken in followed.venus.vtokens.items():
        assert told[symbol].kind == "reserves"
        assert told[symbol].amount == followed.net.call(vtoken, "totalReserves()")
    assert told["USDC"].amount > 0


def test_a_snapshot_is_the_ledger_and_nobody_elses(followed: FollowingVenus) -> None:
    pages = followed.market.snapshot()
    before = state(followed.ledger)
    again = FollowingVenus(followed.net, followed.venus).market
    again._ledger.owing.clear()
    crash(followed)
    again.restore(pages())
    assert state(again._ledger) == before
    broken = list(pages())
    broken[1] = broken[1][:-1] + bytes([broken[1][-1] ^ 1])
    for wrong in (broken, [], broken[:1]):
        with pytest.raises(InvariantError, match="the snapshot cannot be read"):
            again.restore(wrong)


def test_a_log_that_makes_no_sense_stops_the_market(followed: FollowingVenus) -> None:
    ctoken = followed.ledger.ctokens[0]
    for name in (events.ACCRUE, events.TRANSFER, events.BORROW, events.REPAY):
        log = Log(ctoken.address, (name,), b"\xff" * 33, 1, Hash(bytes(32)), 0)
        with pytest.raises(UndecodableError, match="venus"):
            followed.market.fold(log)


@pytest.mark.parametrize(
    ("which", "told"),
    [
        ("nobody", "has no code"),
        ("aave", "is no comptroller of Compound V2 or a fork"),
        ("vtoken", "is no comptroller of Compound V2 or a fork"),
    ],
)
def test_a_wrong_address_is_one_line(devnet: Devnet, venus: Venus, which: str, told: str) -> None:
    wrong = {
        "nobody": bytes(19) + b"\7",
        "aave": devnet.market.pool,
        "vtoken": venus.vtokens["USDC"],
    }[which]

    async def discover() -> None:
        reader = ChainReader(DirectRpc(devnet))
        config = CompoundV2.Config.model_validate({"comptroller": to_hex(wrong)})
        await CompoundV2.discover(reader, "venus", config, await reader.head())

    with pytest.raises(ConfigError, match=told) as raised:
        asyncio.run(discover())
    assert "\n" not in str(raised.value)


def test_a_first_block_after_the_first_use_is_told(devnet: Devnet, venus: Venus) -> None:
    async def load() -> None:
        reader = ChainReader(DirectRpc(devnet))
        config = CompoundV2.Config(comptroller=Address(venus.comptroller))
        head = await reader.head()
        market = await CompoundV2.discover(reader, "venus", config, head, head.number)
        await market.bootstrap(reader, head)

    with pytest.raises(Exception, match="sum to") as raised:
        asyncio.run(load())
    assert "first_block" in str(getattr(raised.value, "hint", ""))


def test_a_sale_is_redeemed_at_the_rate_of_its_block(followed: FollowingVenus) -> None:
    """The amount a redemption brings is known to the unit, and ends where the cash does."""
    redemption = followed.market.redemption()
    redemption.observe((), followed.head, followed.later())  # type: ignore[attr-defined]
    holder, vtoken = followed.net.users[0].address, Address(followed.venus.vtokens["WETH"])
    (hop,) = redemption.hops(vtoken)
    swaps = redemption.begin()
    brought = swaps.apply(hop, 10**6)
    assert brought == swaps.quote(hop, 10**6) > 0
    assert swaps.quote(hop, 10**20) == 0
    data = bytes.fromhex("db006a75") + (10**6).to_bytes(32, "big")
    before = int(followed.net.rpc("eth_getBalance", to_hex(vtoken), "latest"), 16)
    followed.net.chain.send_all([Transaction(holder, vtoken, data)])
    after = int(followed.net.rpc("eth_getBalance", to_hex(vtoken), "latest"), 16)
    assert before - after == brought
