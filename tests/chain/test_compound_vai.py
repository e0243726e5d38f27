"""VAI by Venus' real controller: who owes some is judged with it, to the wei, at every block."""

from collections.abc import Iterator

import pytest

from keeper.devnet import Devnet
from keeper.devnet.chain import Transaction
from keeper.devnet.venus import WAD, Venus, deploy_venus
from keeper.protocols.compound_v2.vai import Minted, Unread
from keeper.types import Reason
from keeper.units import Address, Wad
from tests.vai import Vai, deploy_vai
from tests.venus import FollowingVenus, state

pytestmark = pytest.mark.chain

MAX = 2**256 - 1


@pytest.fixture(scope="module")
def core(devnet: Devnet) -> Iterator[tuple[Venus, Vai]]:
    """Venus with VAI, and two borrowers of USDC against WETH, the first of whom mints VAI later."""
    before = devnet.snapshot()
    venus = deploy_venus(devnet.chain, devnet.market, lambda _: None)
    vai = deploy_vai(devnet, venus)
    for user in devnet.users[:2]:
        sent = [*venus.supply(user.address, "WETH", 10 * WAD)]
        devnet.chain.send_all([*sent, venus.borrow(user.address, "USDC", 12_000 * 10**6)])
    yield venus, vai
    devnet.revert(before)


@pytest.fixture
def followed(devnet: Devnet, core: tuple[Venus, Vai]) -> Iterator[FollowingVenus]:
    """The market as loaded at the head; the chain is set back to it."""
    before = devnet.snapshot()
    yield FollowingVenus(devnet, core[0])
    devnet.revert(before)


def test_a_debt_in_vai_counts_to_the_wei(followed: FollowingVenus, core: tuple[Venus, Vai]) -> None:
    venus, vai = core
    net, ledger = followed.net, followed.ledger
    net.send(net.users[0].address, vai.token, "approve(address,uint256)", [vai.controller, MAX])
    followed.follow()
    minter, other = (Address(user.address) for user in net.users[:2])
    start = state(ledger)

    def act(signature: str, args: list[object]) -> None:
        net.send(minter, vai.controller, signature, args)
        followed.follow()

    def is_equal() -> None:
        debt = ledger.minters[minter]
        assert isinstance(debt, Minted)
        assert ledger.vai is not None
        assert ledger.vai.rules is not None
        assert debt.owed(ledger.vai.rules.index) == vai.owed(minter)
        assert followed.stored(minter) == venus.liquidity(minter)
        assert followed.stored(other) == venus.liquidity(other)
        assert followed.drifts() == []

    act("mintVAI(uint256)", [2_000 * WAD])
    is_equal()
    net.rpc("anvil_mine", hex(30))
    followed.follow()
    later = followed.at_next(minter).debt[-1]
    net.send(minter, vai.controller, "accrueVAIInterest()", [])
    followed.follow()
    assert (later.token.symbol, later.amount) == ("VAI", vai.owed(minter))
    is_equal()
    act("mintVAI(uint256)", [500 * WAD])
    net.rpc("anvil_mine", hex(20))
    act("repayVAI(uint256)", [900 * WAD])
    is_equal()
    again = FollowingVenus(net, venus)
    assert state(again.ledger)["sets"] == state(ledger)["sets"]
    pages = list(followed.market.snapshot()())
    again.market.restore(pages)
    assert again.ledger.minters == ledger.minters
    for block in reversed(followed.blocks):
        followed.take_back(block.undos)
    assert state(ledger) == start


def test_a_minter_is_judged_again_and_refused_only_where_vai_comes_first(
    followed: FollowingVenus, core: tuple[Venus, Vai]
) -> None:
    venus, vai = core
    net, market = followed.net, followed.market
    minter, other = (Address(user.address) for user in net.users[:2])
    rival = net.users[4].address
    net.give("USDC", rival, 10**12)
    usdc = net.tokens["USDC"].address
    net.send(rival, usdc, "approve(address,uint256)", [venus.liquidator, 10**12])
    net.send(minter, vai.token, "approve(address,uint256)", [vai.controller, MAX])
    net.send(minter, vai.controller, "mintVAI(uint256)", [2_000 * WAD])
    net.set_price("WETH", 1_650 * 10**8, move_pools=False)
    followed.follow()
    # Twelve thousand are safe at this price; with two thousand of VAI they are not.
    assert followed.at_next(other).health > WAD > followed.at_next(minter).health
    assert followed.ledger.touched >= {minter}
    held, owed = market.legs(minter)
    collateral, debts = market.factors(followed.prices, followed.later())
    weighted = sum(float(amount) * collateral[number] for number, amount in held)
    owing = sum(float(amount) * debts[number] for number, amount in owed)
    exact = followed.at_next(minter).health / WAD
    assert exact * (1 - 1e-5) <= weighted / owing <= exact * (1 + 1e-9)

    position = followed.at_next(minter)
    (terms,), skips = market.pairs(position, followed.prices, followed.later())
    assert (terms.debt.symbol, skips) == ("USDC", [])
    before = net.snapshot()
    left = market.after(position, terms, terms.maximum)
    call = market.execution(terms)
    data = call.opening + minter.rjust(32, b"\0") + terms.maximum.to_bytes(32, "big") + call.closing
    (mined,) = net.chain.send_all([Transaction(rival, call.target, data)], check=False)
    assert mined.ok
    followed.follow()
    now = market.position(minter, followed.prices, followed.later(0))
    assert now is not None
    assert now.debt == left.debt
    net.revert(before)

    followed = FollowingVenus(net, venus)
    net.send(venus.owner, venus.liquidator, "setMinLiquidatableVAI(uint256)", [1_000 * WAD])
    net.send(venus.owner, venus.liquidator, "resumeForceVAILiquidate()", [])
    followed.follow()
    found, (skip,) = followed.market.pairs(
        followed.at_next(minter), followed.prices, followed.later()
    )
    assert (list(found), skip.reason) == ([], Reason.DENIED)
    assert "VAI has to be liquidated first" in skip.detail
    (mined,) = net.chain.send_all([Transaction(rival, call.target, data)], check=False)
    assert not mined.ok
    net.send(minter, vai.controller, "repayVAI(uint256)", [1_500 * WAD])
    followed.follow()
    assert isinstance(followed.ledger.minters[minter], Minted)
    net.set_price("WETH", 1_400 * 10**8, move_pools=False)
    followed.follow()
    (terms,), skips = followed.market.pairs(
        followed.at_next(minter), followed.prices, followed.later()
    )
    assert (terms.debt.symbol, skips) == ("USDC", [])
    ledger = followed.ledger
    ledger.set_minter(minter, Unread(followed.head.number))
    assert followed.market.position(minter, followed.prices, followed.later()) is None
    followed.follow()
    assert Wad(WAD) > followed.at_next(minter).health
