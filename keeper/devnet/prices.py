"""Read and move the market's prices through their real sources."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from eth_abi.abi import encode

from keeper.devnet.artifacts import load_own
from keeper.devnet.calls import calldata
from keeper.devnet.chain import BLOCK_SECONDS, GWEI, Chain, Transaction
from keeper.devnet.model import Market, Token
from keeper.devnet.solidity import Artifact

WAD = 10**18
# Prices come first in a block, pools follow, everyone else comes after.
POST_FEE = 400 * GWEI


def read_prices(chain: Chain, market: Market, block: str = "latest") -> dict[str, int]:
    """Return every reserve's price as the oracle gives it, USD with 8 decimals."""
    tokens = market.tokens.values()
    calls = [(market.oracle, "getAssetPrice(address)", [token.address]) for token in tokens]
    answers = chain.call_many(calls, ["uint256"], block)
    return {token.symbol: price for token, price in zip(tokens, answers, strict=True)}


def read_price(chain: Chain, market: Market, symbol: str) -> int:
    """Return one reserve's price, USD with 8 decimals."""
    args = [market.tokens[symbol].address]
    return int(chain.call(market.oracle, "getAssetPrice(address)", args))


def put_prices(chain: Chain, market: Market, prices: Mapping[str, int]) -> None:
    """Put into the pool what makes each reserve's price become the one given.

    A proxy's aggregator gets an answer. A ratio or capped source gets the ratio (rounded down)
    to its base's price, the one given here included; a decaying one the discount rate.
    """
    ordered = sorted(prices, key=lambda symbol: market.tokens[symbol].source != "proxy")
    for symbol in ordered:
        if prices[symbol] <= 0:
            raise ValueError(f"a price of {symbol} must be positive, was {prices[symbol]}")
        chain.put(_update(chain, market, market.tokens[symbol], prices))


def rotate_aggregator(chain: Chain, market: Market, symbol: str) -> bytes:
    """Put a new aggregator behind a reserve's proxy at the same price; return its address."""
    proxy = market.tokens[symbol].base
    price = chain.call(proxy, "latestAnswer()", returns=["int256"])
    aggregator = chain.deploy(market.owner, aggregator_code(load_own(), symbol, price))
    chain.send(market.owner, proxy, "setAggregator(address)", [aggregator])
    return aggregator


@contextmanager
def replaced_sources(chain: Chain, market: Market, prices: Mapping[str, int]) -> Iterator[None]:
    """Let the oracle read these prices from sources of their own while the body runs."""
    tokens = [market.tokens[symbol] for symbol in prices]
    assets = [token.address for token in tokens]
    own = load_own()
    stand_ins = chain.deploy_all(
        market.owner, [aggregator_code(own, symbol, price) for symbol, price in prices.items()]
    )
    before = chain.call_many(
        [(market.oracle, "getSourceOfAsset(address)", [asset]) for asset in assets],
        ["address"],
        "latest",
    )
    signature = "setAssetSources(address[],address[])"
    chain.send(market.owner, market.oracle, signature, [assets, stand_ins])
    try:
        yield
    finally:
        chain.send(market.owner, market.oracle, signature, [assets, before])


def aggregator_code(own: Mapping[str, Artifact], symbol: str, price: int) -> bytes:
    """Return the creation code of an aggregator of 8 decimals that starts at `price`."""
    arguments = encode(["string", "uint8", "int256"], [f"{symbol} / USD", 8, price])
    return own["aggregator"].linked({}) + arguments


def _update(chain: Chain, market: Market, token: Token, prices: Mapping[str, int]) -> Transaction:
    price = prices[token.symbol]
    if token.source == "proxy":
        aggregator = chain.call(token.feed, "aggregator()", returns=["address"])
        return _post(market.owner, bytes.fromhex(aggregator[2:]), "set(int256)", price)
    bases = {item.feed: symbol for symbol, item in market.tokens.items()}
    base = prices.get(bases.get(token.base, ""))
    if base is None:
        base = chain.call(token.base, "latestAnswer()", returns=["int256"])
    if token.source == "decaying":
        left = chain.call(token.feed, "MATURITY()") - chain.timestamp() - BLOCK_SECONDS
        if left <= 0 or price >= base:
            raise ValueError(f"{token.symbol} can only stand below its base before maturity")
        rate = (base - price) * WAD * 31_536_000 // (base * left)
        return _post(market.owner, token.feed, "setDiscountRatePerYear(uint256)", rate)
    ratio = -(-price * WAD // base)
    return _post(market.owner, token.feed, "setRatio(int256)", ratio)


def _post(owner: bytes, to: bytes, signature: str, value: int) -> Transaction:
    return Transaction(owner, to, calldata(signature, [value]), max_fee=POST_FEE)
