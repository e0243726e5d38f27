"""Deploy Uniswap V3 and give its pools liquidity around the market's prices."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isqrt, log

from eth_abi.abi import encode

from keeper.devnet.chain import Chain, Transaction
from keeper.devnet.deploy_tokens import call, mint
from keeper.devnet.model import Market, Pool, Token, Uniswap
from keeper.devnet.prices import read_prices
from keeper.devnet.reserves import PoolSpec
from keeper.devnet.solidity import Artifact

TICK_SPACING = {100: 1, 500: 10, 3000: 60, 10000: 200}
_ZERO = bytes(20)
_USD = 10**8
_MAX = 2**256 - 1
_FAR_FUTURE = 2**40
_MAX_TICK = 887_272
_MINT = "mint((address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256))"
_INITIALIZE = "createAndInitializePoolIfNecessary(address,address,uint24,uint160)"


def deploy_uniswap(
    chain: Chain, owner: bytes, artifacts: Mapping[str, Artifact], weth: bytes
) -> Uniswap:
    """Return factory, router, quoter and position manager, without pools."""
    factory = chain.deploy(owner, artifacts["UniswapV3Factory"].linked({}))
    chain.send(owner, factory, "enableFeeAmount(uint24,int24)", [100, 1])
    pair = encode(["address", "address"], [factory, weth])
    triple = encode(["address", "address", "address"], [factory, weth, _ZERO])
    router, quoter, manager = chain.deploy_all(
        owner,
        [
            artifacts["SwapRouter"].linked({}) + pair,
            artifacts["QuoterV2"].linked({}) + pair,
            artifacts["NonfungiblePositionManager"].linked({}) + triple,
        ],
    )
    return Uniswap(factory, router, quoter, manager, ())


def create_pools(
    chain: Chain,
    uniswap: Uniswap,
    market: Market,
    provider: bytes,
    weth: bytes,
    specs: Sequence[PoolSpec],
) -> tuple[Pool, ...]:
    """Return new pools at the market's prices, with the liquidity of `specs` from `provider`."""
    grants, approvals, opened, minted = [], [], [], []
    manager, tokens, prices = uniswap.position_manager, market.tokens, read_prices(chain, market)
    sides = []
    for spec in specs:
        first, second = sorted((tokens[spec.a], tokens[spec.b]), key=lambda token: token.address)
        root = sqrt_price(first, second, prices)
        sides.append((first, second, spec.fee))
        pair = [first.address, second.address, spec.fee]
        opened.append(call(provider, manager, _INITIALIZE, [*pair, root]))
        amounts = [
            spec.depth * _USD * 10**token.decimals // prices[token.symbol]
            for token in (first, second)
        ]
        for token, amount in zip((first, second), amounts, strict=True):
            grants.append((token.address, provider, amount))
        for width, share in spec.ranges:
            low, high = _ticks(root, width, TICK_SPACING[spec.fee])
            parts = [amount * share // 100 for amount in amounts]
            entry = (*pair, low, high, *parts, 0, 0, provider, _FAR_FUTURE)
            minted.append(call(provider, manager, _MINT, [entry]))
    for address in dict.fromkeys(token for token, _, _ in grants):
        approvals.append(call(provider, address, "approve(address,uint256)", [manager, 0]))
        approvals.append(call(provider, address, "approve(address,uint256)", [manager, _MAX]))
    mint(chain, market.owner, weth, grants)
    chain.send_all(approvals)
    chain.send_all([_with_gas(item, 8_000_000) for item in opened])
    chain.send_all(minted)
    found = chain.call_many(
        [
            (uniswap.factory, "getPool(address,address,uint24)", [a.address, b.address, fee])
            for a, b, fee in sides
        ],
        ["address"],
        "latest",
    )
    return tuple(
        Pool(bytes.fromhex(text[2:]), a.address, b.address, fee)
        for text, (a, b, fee) in zip(found, sides, strict=True)
    )


def sqrt_price(token0: Token, token1: Token, prices: Mapping[str, int]) -> int:
    """Return sqrtPriceX96 of a pool that agrees with the prices, rounded down."""
    numerator = prices[token0.symbol] * 10**token1.decimals
    denominator = prices[token1.symbol] * 10**token0.decimals
    return isqrt((numerator << 192) // denominator)


def _ticks(root: int, width: int, spacing: int) -> tuple[int, int]:
    tick = int(2 * log(root / 2**96) / log(1.0001))
    limit = _MAX_TICK // spacing * spacing
    low = (tick - width) // spacing * spacing
    high = -(-(tick + width) // spacing) * spacing
    return max(low, -limit), min(high, limit)


def _with_gas(transaction: Transaction, gas: int) -> Transaction:
    return replace(transaction, gas=gas)
