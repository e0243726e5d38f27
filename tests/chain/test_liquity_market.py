"""The Liquity V1 adapter on the real mUSD: bad input, drift, snapshots, backstops, what is refused."""

from collections.abc import Iterator

import pytest

from keeper.chain.codes import IMPLEMENTATION_SLOT
from keeper.devnet import Devnet
from keeper.devnet.musd import Musd, deploy_musd
from keeper.errors import ConfigError, InvariantError
from keeper.protocols.liquity_v1 import LiquityV1
from keeper.protocols.liquity_v1.events import UPGRADED
from keeper.types import Log, Reason
from keeper.units import WAD, Address, to_hex
from tests.musd import MusdFollowing, owner

pytestmark = pytest.mark.chain

PRICE = 2_500 * WAD


@pytest.fixture(scope="module")
def system(devnet: Devnet) -> Iterator[tuple[Devnet, Musd]]:
    before = devnet.snapshot()
    musd = deploy_musd(devnet.chain, PRICE)
    musd.set_price(PRICE)
    coins = (40 * WAD, 2 * WAD, 3 * WAD)
    devnet.chain.send_all(
        [musd.opening(owner(n), held, 3_000 * WAD) for n, held in enumerate(coins)]
    )
    musd.deposit(owner(0), 1_234 * WAD)
    yield devnet, musd
    devnet.revert(before)


@pytest.fixture
def following(system: tuple[Devnet, Musd]) -> Iterator[MusdFollowing]:
    net, musd = system
    before = net.snapshot()
    musd.set_price(PRICE)
    yield MusdFollowing(net, musd)
    net.revert(before)


def balance(following: MusdFollowing, of: bytes) -> int:
    return following.net.balance(following.musd.token, of)


def test_backstops_are_what_the_contracts_say(following: MusdFollowing) -> None:
    net, musd = following.net, following.musd
    musd.set_price(1_300 * WAD)
    net.send(owner(9), musd.manager, "liquidate(address)", [owner(1)], gas=3_000_000)
    musd.set_price(1_300 * WAD)
    # A redemption that closes a trove leaves its owner a surplus.
    call = "redeemCollateral(uint256,address,address,address,uint256,uint256)"
    args = [owner(2)] + [bytes(20)] * 2
    amount = following.told(owner(2)).debt
    net.send(owner(1), musd.token, "transfer(address,uint256)", [owner(0), 2_900 * WAD])
    net.send(owner(0), musd.manager, call, [amount, *args, 0, 0], gas=9_000_000)
    following.follow()
    held = {each.kind: each.amount for each in following.market.backstops()}
    pool, surplus = musd["StabilityPool"], musd["CollSurplusPool"]
    assert held == {
        "stability_pool": net.call(pool, "getTotalMUSDDeposits()"),
        "stability_pool_collateral": net.call(pool, "getCollateralBalance()"),
        "gas_pool": balance(following, musd["GasPool"]),
        "surplus": net.call(surplus, "getCollateralBalance()"),
    }
    assert held["stability_pool_collateral"] > 0
    assert held["surplus"] > 0
    assert held["gas_pool"] == 200 * WAD


def test_the_last_trove_is_left_alone(following: MusdFollowing) -> None:
    musd, market = following.musd, following.market
    for number in (1, 2):
        musd.set_price(1_000 * WAD)
        following.net.send(
            owner(9), musd.manager, "liquidate(address)", [owner(number)], gas=3_000_000
        )
    musd.set_price(100 * WAD)
    following.follow()
    position = following.position(owner(0))
    assert position is not None
    assert position.health < WAD
    pairs, (skip,) = market.pairs(position, following.prices, following.next())
    assert (pairs, skip.reason) == ([], Reason.DENIED)
    assert skip.detail == "the last trove is never liquidated"


def test_new_code_behind_a_proxy_stops_the_market_and_its_undo_starts_it(
    following: MusdFollowing,
) -> None:
    market, musd = following.market, following.musd
    manager = Address(musd.manager)
    topics = (UPGRADED, bytes(12) + b"\x07" * 20)
    undo = market.fold(Log(manager, topics, b"", 1, following.head.hash, 0))
    assert market.stopped == f"the code of {to_hex(manager)} was replaced"
    musd.set_price(1_200 * WAD)
    following.follow()
    position = following.position(owner(1))
    assert position is not None
    pairs, (skip,) = market.pairs(position, following.prices, following.next())
    assert (pairs, skip.reason) == ([], Reason.DENIED)
    assert undo is not None
    undo()
    assert market.stopped == ""
    assert market.pairs(position, following.prices, following.next())[0]


def test_after_an_upgrade_only_code_that_is_known_is_sent_to(following: MusdFollowing) -> None:
    market, musd, net = following.market, following.musd, following.net
    manager = Address(musd.manager)
    upgraded = Log(manager, (UPGRADED, bytes(32)), b"", 1, following.head.hash, 0)

    def anew() -> None:
        market.fold(upgraded)
        assert market.stopped
        following.run(market.bootstrap(following.reader, following.head))

    anew()
    assert market.stopped == ""
    slot = following.run(following.reader.storage(manager, IMPLEMENTATION_SLOT))
    code = net.rpc("eth_getCode", to_hex(slot[-20:]), "latest")
    net.rpc("anvil_setCode", to_hex(slot[-20:]), code + "00")
    musd.set_price(1_200 * WAD)
    following.follow()
    known = list(market.snapshot()())
    anew()
    doubt = f"the code of {to_hex(manager)} was replaced: review it, then set code = "
    assert market.stopped.startswith(doubt)
    assert "\n" not in market.stopped
    # It is followed and audited, and nothing is sent to it.
    following.observe()
    assert following.run(market.audit(following.reader, following.head, 10, 1)) == []
    position = following.position(owner(1))
    assert position is not None
    pairs, (skip,) = market.pairs(position, following.prices, following.next())
    assert (pairs, skip.reason, skip.detail) == ([], Reason.DENIED, market.stopped)
    # A restart does not forget what was known; who looked at the code names it.
    weth = to_hex(net.tokens["WETH"].address)
    named = market.stopped.split('"')[1]
    other = "is not the code that was reviewed"
    for reviewed, why in (("", doubt), (named, ""), ("0x" + "ab" * 8, other)):
        config = LiquityV1.Config(trove_manager=to_hex(manager), wrapped=weth, code=reviewed)
        again = following.run(LiquityV1.discover(following.reader, "musd", config, following.head))
        again.restore(known)
        assert why in again.stopped if why else not again.stopped
    # Nor does one that can make no other use of the snapshot.
    config = LiquityV1.Config(trove_manager=to_hex(manager), wrapped=weth)
    again = following.run(LiquityV1.discover(following.reader, "musd", config, following.head))
    again.remember(known[0])
    following.run(again.bootstrap(following.reader, following.head))
    assert again.stopped == market.stopped


def test_a_planted_drift_is_found(following: MusdFollowing) -> None:
    market, ledger = following.market, following.ledger
    assert following.run(market.audit(following.reader, following.head, 10, 1)) == []
    who = Address(owner(1))
    ledger.troves[who] = ledger.troves[who]._replace(stake=ledger.troves[who].stake - 1)
    (drift,) = following.run(market.audit(following.reader, following.head, 10, 1))
    assert drift.subject == f"trove {to_hex(who)} stake"
    assert drift.actual - drift.held == 1


def test_a_snapshot_brings_the_ledger_back(following: MusdFollowing) -> None:
    market = following.market
    pages = list(market.snapshot()())
    before = dict(following.ledger.troves), following.ledger.system
    market.restore(pages)
    assert (following.ledger.troves, following.ledger.system) == before
    for broken in ([pages[0]], [b"{}"], [*pages, pages[1].replace(b"[[", b"[[0,", 1)]):
        with pytest.raises(InvariantError, match="the snapshot cannot be read"):
            market.restore(broken)


def test_what_is_no_trove_manager_is_one_line(following: MusdFollowing) -> None:
    net, musd = following.net, following.musd
    weth = to_hex(net.tokens["WETH"].address)
    wrong = {
        to_hex(net.market.pool): "is no trove manager of the Liquity V1 family",
        to_hex(musd.token): "is no trove manager of the Liquity V1 family",
        to_hex(owner(5)): "is no trove manager of the Liquity V1 family",
    }
    for manager, why in wrong.items():
        config = LiquityV1.Config(trove_manager=manager, wrapped=weth)
        with pytest.raises(ConfigError, match=why) as told:
            following.run(LiquityV1.discover(following.reader, "m", config, following.head))
        assert "\n" not in str(told.value)
    config = LiquityV1.Config(trove_manager=to_hex(musd.manager), wrapped=to_hex(owner(5)))
    with pytest.raises(ConfigError, match="is no token"):
        following.run(LiquityV1.discover(following.reader, "m", config, following.head))


def test_a_coin_with_a_token_s_face_is_not_wrapped(following: MusdFollowing) -> None:
    musd = following.musd
    musd.set_price(1_200 * WAD)
    following.follow()
    position = following.position(owner(1))
    assert position is not None
    (terms,), _ = following.market.pairs(position, following.prices, following.next())
    weth = to_hex(following.net.tokens["WETH"].address)
    for is_coin in (False, True):
        config = LiquityV1.Config(trove_manager=to_hex(musd.manager), wrapped=weth, is_coin=is_coin)
        found = following.run(LiquityV1.discover(following.reader, "m", config, following.head))
        done = found.execution(terms)
        assert (done.native, done.gainless) == (not is_coin, not is_coin)
