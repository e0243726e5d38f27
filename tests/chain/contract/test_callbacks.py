"""Callbacks are taken once, from the one expected, for what was asked; nothing re-enters."""

from dataclasses import replace

import pytest
from eth_abi.abi import encode

from keeper.devnet import RevertedError
from keeper.errors import RpcError
from keeper.planning import owner_calls
from keeper.planning.encoding import Call, Check, Fund, FundKind, Item, encode_run, exactly, pack
from keeper.units import WAD, Address
from tests.chain.contract.stage import FAR, reverts, selector

pytestmark = pytest.mark.chain

AMOUNT = 10**9
SILENT, WRONG_INITIATOR, FORGED, MORE, TWICE, WRONG_TOKEN, PULLS_LESS, WRONG_CALLBACK = range(1, 9)
HOOKED = 11


def callbacks(stage, payload: bytes) -> dict[str, bytes]:
    """Calldata of every callback, as a forger would send it."""
    usdc, self = stage.token("USDC"), stage.address
    shapes = {
        "executeOperation(address,uint256,uint256,address,bytes)": [usdc, AMOUNT, 0, self, payload],
        "onMorphoFlashLoan(uint256,bytes)": [AMOUNT, payload],
        "receiveFlashLoan(address[],uint256[],uint256[],bytes)": [[usdc], [AMOUNT], [0], payload],
        "uniswapV3FlashCallback(uint256,uint256,bytes)": [0, 0, payload],
        "uniswapV3SwapCallback(int256,int256,bytes)": [AMOUNT, -AMOUNT, b""],
        "run_group(bytes)": [payload],
    }
    return {
        signature: selector(signature)
        + encode(signature[signature.index("(") + 1 : -1].split(","), values)
        for signature, values in shapes.items()
    }


def test_forged_callbacks_out_of_a_batch_are_refused(stage, crashed) -> None:
    (borrower,) = crashed(1)
    payload = pack(stage.batch(stage.group([stage.item(borrower, "USDC", AMOUNT)])))
    pools = [pool.address for pool in stage.net.uniswap.pools]
    stage.net.give("USDC", stage.address, 10 * AMOUNT)
    forged = callbacks(stage, payload)
    assert len(forged) == 6
    for signature, data in forged.items():
        own = "NotSelf()" if signature.startswith("run_group") else "UnexpectedCallback()"
        for sender in (stage.operator, stage.owner, stage.market.pool, *pools[:2]):
            with pytest.raises(RpcError) as caught:
                stage.ask(data, sender)
            assert caught.value.data == selector(own), signature


def test_third_party_flash_loans_to_us_are_refused(stage, crashed) -> None:
    (borrower,) = crashed(1)
    usdc, net = stage.token("USDC"), stage.net
    payload = pack(stage.batch(stage.group([stage.item(borrower, "USDC", AMOUNT)])))
    net.give("USDC", stage.address, 10 * AMOUNT)
    attacker = net.users[9].address
    args = [stage.address, usdc, AMOUNT, payload, 0]
    with pytest.raises(RevertedError):
        net.send(
            attacker,
            stage.market.pool,
            "flashLoanSimple(address,address,uint256,bytes,uint16)",
            args,
        )
    pool = next(p for p in net.uniswap.pools if usdc in (p.token0, p.token1))
    amounts = [AMOUNT, 0] if pool.token0 == usdc else [0, AMOUNT]
    with pytest.raises(RevertedError):
        net.send(
            attacker,
            pool.address,
            "flash(address,uint256,uint256,bytes)",
            [stage.address, *amounts, payload],
        )
    assert stage.held("USDC") == 10 * AMOUNT


@pytest.fixture
def lender(stage, mock) -> bytes:
    """A hostile lender the owner has allowed, with funds."""
    venue = bytes(mock("venue"))
    for signature in (owner_calls.AAVE_FLASH, owner_calls.MORPHO_FLASH):
        stage.by_owner(owner_calls.encode_allow(Address(venue), signature))
    stage.net.give("USDC", venue, 10**13)
    stage.net.give("USDC", stage.address, 10**13)
    return venue


def funded(stage, crashed, kind: FundKind, lender: bytes):
    (borrower,) = crashed(1)
    half = stage.debt("USDC", borrower) // 2
    batch = stage.batch(stage.group([stage.item(borrower, "USDC", half)]))
    return replace(batch, funds=(Fund(kind, stage.token("USDC"), half, Address(lender)),))


@pytest.mark.parametrize("kind", [FundKind.AAVE, FundKind.MORPHO])
def test_an_honest_lender_is_repaid(stage, crashed, lender, kind) -> None:
    batch = funded(stage, crashed, kind, lender)
    result = stage.simulate(batch)
    assert result.groups[0].ok
    assert result.gains[1] > 0
    stage.run(batch)
    assert stage.allowance("USDC", lender) == 0


@pytest.mark.parametrize(
    ("kind", "mode", "error"),
    [
        (FundKind.AAVE, SILENT, "NoCallback"),
        (FundKind.AAVE, WRONG_INITIATOR, "UnexpectedCallback"),
        (FundKind.AAVE, FORGED, "UnexpectedCallback"),
        (FundKind.AAVE, MORE, "UnexpectedCallback"),
        (FundKind.AAVE, TWICE, "UnexpectedCallback"),
        (FundKind.AAVE, WRONG_TOKEN, "UnexpectedCallback"),
        (FundKind.AAVE, WRONG_CALLBACK, "UnexpectedCallback"),
        (FundKind.MORPHO, SILENT, "NoCallback"),
        (FundKind.MORPHO, FORGED, "UnexpectedCallback"),
        (FundKind.MORPHO, MORE, "UnexpectedCallback"),
        (FundKind.MORPHO, TWICE, "UnexpectedCallback"),
    ],
)
def test_a_lender_that_cheats_gets_a_revert(stage, crashed, lender, kind, mode, error) -> None:
    batch = funded(stage, crashed, kind, lender)
    stage.net.send(lender, lender, "set_mode(uint256)", [mode])
    reverts(stage, batch, error)


def test_a_lender_that_pulls_less_keeps_no_allowance(stage, crashed, lender) -> None:
    batch = funded(stage, crashed, FundKind.AAVE, lender)
    stage.net.send(lender, lender, "set_mode(uint256)", [PULLS_LESS])
    stage.run(batch)
    assert stage.allowance("USDC", lender) == 0


def test_a_dear_premium_is_refused_by_the_guard(stage, crashed, lender) -> None:
    batch = funded(stage, crashed, FundKind.AAVE, lender)
    stage.net.send(lender, lender, "set_premium(uint256)", [10**12])
    reverts(stage, batch, "BalanceFell")


def test_a_lender_must_be_allowed(stage, crashed, mock) -> None:
    stranger = mock("venue")
    for kind in (FundKind.AAVE, FundKind.MORPHO, FundKind.BALANCER):
        reverts(stage, funded(stage, crashed, kind, stranger), "NotAllowed")
    fund = Fund(
        FundKind.UNISWAP, stage.token("USDC"), AMOUNT, Address(stranger), stage.token("WETH"), 500
    )
    reverts(
        stage, replace(funded(stage, crashed, FundKind.AAVE, stranger), funds=(fund,)), "NotAllowed"
    )


def test_nothing_re_enters_from_the_middle_of_a_batch(stage, crashed, lender) -> None:
    """The hook runs while a loan is awaited: the moment with an expected callback set."""
    batch = funded(stage, crashed, FundKind.AAVE, lender)
    net = stage.net
    stage.by_owner(owner_calls.encode_set_operator(Address(lender), True))
    net.give("WETH", stage.address, WAD)
    pool = stage.market.pool
    flash = selector("flashLoanSimple(address,address,uint256,bytes,uint16)") + encode(
        ["address", "address", "uint256", "bytes", "uint16"],
        [stage.address, stage.token("USDC"), batch.funds[0].amount, pack(batch), 0],
    )
    attempts = [(stage.address, data) for data in callbacks(stage, b"").values()]
    attempts += [
        (stage.address, encode_run(batch)),
        (stage.address, owner_calls.encode_sweep(stage.token("WETH"))),
        (stage.address, owner_calls.encode_sweep(stage.token("USDC"))),
        (stage.address, owner_calls.encode_accept_ownership()),
        (pool, flash),
    ]
    for target, data in attempts:
        shot = net.snapshot()
        net.send(lender, lender, "arm(address,bytes)", [target, data], gas=16_000_000)
        net.send(lender, lender, "set_mode(uint256)", [HOOKED])
        assert stage.run(batch).ok
        assert net.call(lender, "hook_ran()") == 1
        assert net.call(lender, "hook_ok()", returns=["bool"]) is False, data[:4].hex()
        net.revert(shot)


def test_a_hostile_token_cannot_forge_the_swap_it_is_part_of(stage, crashed, mock) -> None:
    """A genuine pool of a hostile token gives that token control in the middle of our swap."""
    net, token = stage.net, mock("token")
    weth = stage.token("WETH")
    pool = hostile_pool(stage, token)
    net.give("WETH", stage.address, 10 * WAD)
    net.send(token, token, "mint(address,uint256)", [stage.address, WAD])
    venue = mock("venue")
    stage.by_owner(owner_calls.encode_allow(Address(venue), owner_calls.LIQUIDATION_CALL))
    net.give("WETH", venue, 10 * WAD)
    swap = replace(
        stage.swap("WETH", "USDC"), fee=3000, receive=Address(token), amount=exactly(10**15)
    )
    group = replace(
        stage.group([Item(Address(b"\1" * 20), 10**15)], actions=(swap,)),
        pool=Address(venue),
        debt=Address(token),
        check=Check.NONE,
    )
    batch = replace(stage.batch(group), funds=())
    for delta in (10**15, 10**18):
        call = selector("uniswapV3SwapCallback(int256,int256,bytes)") + encode(
            ["int256", "int256", "bytes"], [delta, -delta, b""]
        )
        net.send(token, token, "arm(address,bytes)", [stage.address, call])
        before = net.balance(weth, stage.address)
        stage.run(batch, check=False)
        assert net.balance(weth, stage.address) >= before
        assert net.call(token, "hook_ok()", returns=["bool"]) is False
    assert net.balance(weth, pool) > 0


def hostile_pool(stage, token: bytes) -> bytes:
    """Open a genuine pool of a hostile token against WETH with liquidity."""
    net, uniswap, maker = stage.net, stage.net.uniswap, stage.net.users[8].address
    weth = stage.token("WETH")
    low, high = sorted((weth, token))
    manager = uniswap.position_manager
    net.send(
        maker,
        manager,
        "createAndInitializePoolIfNecessary(address,address,uint24,uint160)",
        [low, high, 3000, 2**96],
        gas=10_000_000,
    )
    net.give("WETH", maker, 100 * WAD)
    net.send(token, token, "mint(address,uint256)", [maker, 100 * WAD])
    for coin in (weth, token):
        net.send(maker, coin, "approve(address,uint256)", [manager, 2**255])
    net.send(
        maker,
        manager,
        "mint((address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256))",
        [(low, high, 3000, -60_000, 60_000, 50 * WAD, 50 * WAD, 0, 0, maker, FAR)],
        gas=10_000_000,
    )
    pool = net.call(
        uniswap.factory, "getPool(address,address,uint24)", [low, high, 3000], ["address"]
    )
    return bytes.fromhex(pool[2:])


def test_the_pool_that_lends_cannot_trade(stage, crashed) -> None:
    (borrower,) = crashed(1)
    half = stage.debt("USDC", borrower) // 2
    usdc, weth = stage.token("USDC"), stage.token("WETH")
    fees = sorted(p.fee for p in stage.net.uniswap.pools if {p.token0, p.token1} == {usdc, weth})
    factory = Address(stage.net.uniswap.factory)
    item = stage.item(borrower, "USDC", half)
    for fee in fees:
        fund = Fund(FundKind.UNISWAP, usdc, half, factory, weth, fee)
        sale = stage.swap("WETH", "USDC", fee=fees[0])
        batch = stage.batch(stage.group([item], actions=(sale,)), funds=(fund,))
        if fee == fees[0]:
            stage.net.give("USDC", stage.address, half)
            stage.by_owner(owner_calls.encode_set_budget(usdc, half))
            result = stage.simulate(batch)
            assert not result.groups[0].ok
            assert result.items[0].undone
        else:
            assert stage.simulate(batch).groups[0].ok
            return
    raise AssertionError("the local chain needs two pools of USDC and WETH")


def test_nested_funds_are_repaid_in_reverse(stage, crashed) -> None:
    usdc_borrowers, dai_borrowers = (
        crashed(1),
        stage.net.borrowers(1, debt="DAI", health=1.01, size_usd=20_000),
    )
    stage.net.set_price("WETH", stage.net.price("WETH") * 95 // 100)
    usdc, weth, dai = (stage.token(symbol) for symbol in ("USDC", "WETH", "DAI"))
    one = stage.debt("USDC", usdc_borrowers[0]) // 4
    two = stage.debt("DAI", dai_borrowers[0]) // 4
    groups = (
        stage.group([stage.item(usdc_borrowers[0], "USDC", one)]),
        stage.group(
            [stage.item(dai_borrowers[0], "DAI", two)],
            debt="DAI",
            actions=(stage.swap("WETH", "USDC"), stage.swap("USDC", "DAI")),
        ),
    )
    fees = sorted(p.fee for p in stage.net.uniswap.pools if {p.token0, p.token1} == {usdc, weth})
    uniswap = Fund(FundKind.UNISWAP, usdc, one, Address(stage.net.uniswap.factory), weth, fees[-1])
    stage.net.give("USDC", stage.address, 5)
    held = Fund(FundKind.INVENTORY, usdc, 5)
    batch = stage.batch(*groups, funds=(uniswap, held, stage.aave_fund("DAI", two)))
    result = stage.simulate(batch)
    assert [group.ok for group in result.groups] == [True, True], result
    assert dict(zip(batch.tokens, result.gains, strict=True))[dai] > 0
    short = replace(batch, funds=(replace(held, amount=10**15), *batch.funds))
    reverts(stage, short, "InventoryShort")
    stage.run(batch)
    assert stage.allowance("DAI", stage.market.pool) == 0


def test_generic_calls_take_no_typed_selector(stage, crashed) -> None:
    """Free calldata for liquidationCall or a flash loan would be a way around the typed actions."""
    (borrower,) = crashed(1)
    item = stage.item(borrower, "USDC", AMOUNT)
    for signature in (owner_calls.LIQUIDATION_CALL, owner_calls.AAVE_FLASH):
        call = Call(
            Address(stage.market.pool),
            signature + bytes(160),
            stage.token("WETH"),
            stage.token("USDC"),
            exactly(1),
        )
        batch = stage.batch(stage.group([item], actions=(call,)))
        stage.net.give("USDC", stage.address, AMOUNT)
        stage.by_owner(owner_calls.encode_set_budget(stage.token("USDC"), AMOUNT))
        assert stage.simulate(batch).groups[0].reason == selector("NotAllowed()")
