"""A market of Aave v3.0 in the main one's place, for tests that work on either, and its upgrade."""

from collections.abc import Iterator
from contextlib import contextmanager

from eth_abi.abi import encode
from eth_hash.auto import keccak

from keeper.devnet import Devnet
from keeper.devnet.artifacts import compile_aave, load_own
from keeper.devnet.deploy_aave import AaveDeployer
from keeper.devnet.deploy_aave_v30 import add_early_market
from keeper.devnet.model import Market
from keeper.devnet.reserves import EMODES, RESERVES

RESERVES_SLOT = 52
"""Where PoolStorage keeps `_reserves` in every version."""
VIRTUAL_ACCOUNTING = 1 << 252


def compact_call(collateral: int, debt: int, user: bytes, cover: int, *, keep: bool) -> bytes:
    """Return `L2Pool.liquidationCall(bytes32,bytes32)` as CalldataLogic unpacks it; reserves by id.

    The largest uint128 stands for all there is.
    """
    first = collateral | debt << 16 | int.from_bytes(user) << 32
    second = min(cover, 2**128 - 1) | keep << 128
    return bytes.fromhex("fd21ecff") + first.to_bytes(32) + second.to_bytes(32)


@contextmanager
def early_in_place(net: Devnet) -> Iterator[Market]:
    """Let the local chain's market be one of v3.0, with the same tokens and prices."""
    before, main = net.snapshot(), net.market
    market = add_early_market(net, progress=lambda _: None)
    net.market = market
    try:
        yield market
    finally:
        net.market = main
        net.revert(before)


def upgrade(net: Devnet) -> None:
    """Make the v3.0 market one of v3.6, in place: pool, configurator, tokens, rates, categories.

    What the upgrades in between wrote into the reserves' storage is written by hand: no deficit where
    a stable rate was, and the underlying there is as the virtual balance.
    """
    market, owner = net.market, net.market.owner
    code = compile_aave(net._modules, lambda _: None)
    build = AaveDeployer(net.chain, code, load_own(), net.tokens["WETH"].address)
    libraries = build._libraries(owner)
    provider = market.provider
    rates = net.deploy(
        code["DefaultReserveInterestRateStrategyV2"].linked({}) + encode(["address"], [provider])
    )
    pool = net.deploy(
        code["PoolInstance"].linked(libraries) + encode(["address"] * 2, [provider, rates])
    )
    configurator = net.deploy(code["PoolConfiguratorInstance"].linked(libraries))
    a_token, v_token = (
        net.deploy(code[name].linked({}) + encode(["address"] * len(args), args))
        for name, args in (
            ("ATokenInstance", [market.pool, bytes(20), market.treasury]),
            ("VariableDebtTokenInstance", [market.pool, bytes(20)]),
        )
    )
    for token in market.tokens.values():
        migrate(net, token.address, net.balance(token.address, token.a_token))
    with net.one_block():
        net.put(owner, provider, "setPoolImpl(address)", [pool])
        net.put(owner, provider, "setPoolConfiguratorImpl(address)", [configurator])
    with net.one_block():
        for token in market.tokens.values():
            for name, code_of in (("updateAToken", a_token), ("updateVariableDebtToken", v_token)):
                update = (token.address, token.symbol, token.symbol, code_of, b"")
                signature = f"{name}((address,string,string,address,bytes))"
                net.put(owner, market.configurator, signature, [update])
    with net.one_block():
        for spec in RESERVES:
            asset = market.tokens[spec.symbol].address
            data = encode(["uint16", "uint32", "uint32", "uint32"], spec.rates)
            signature = "setReserveInterestRateData(address,bytes)"
            net.put(owner, market.configurator, signature, [asset, data])
        for mode in EMODES:
            for name, symbols in (("Collateral", mode.collateral), ("Borrowable", mode.borrowable)):
                for symbol in symbols:
                    args = [market.tokens[symbol].address, mode.id, True]
                    signature = f"setAsset{name}InEMode(address,uint8,bool)"
                    net.put(owner, market.configurator, signature, args)


def migrate(net: Devnet, asset: bytes, cash: int) -> None:
    """Write a reserve's storage as v3.6 expects it."""
    pool = "0x" + net.market.pool.hex()
    start = int.from_bytes(keccak(asset.rjust(32, b"\0") + RESERVES_SLOT.to_bytes(32)))

    def change(offset: int, clear: int, put: int) -> None:
        slot = hex(start + offset)
        word = int(net.rpc("eth_getStorageAt", pool, slot, "latest"), 16)
        after = word & ~clear | put
        net.rpc("anvil_setStorageAt", pool, slot, "0x" + after.to_bytes(32).hex())

    low, high = 2**128 - 1, (2**128 - 1) << 128
    change(0, 0, VIRTUAL_ACCOUNTING)
    change(3, low, 0)
    change(8, high, cash << 128)
