"""Read and move the market's prices through their real sources."""

from collections.abc import Mapping

from keeper.devnet.calls import calldata
from keeper.devnet.chain import GWEI, Chain, Transaction
from keeper.devnet.model import Market, Token

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


def _update(
    chain: Chain, market: Market, token: Token, prices: Mapping[str, int]
) -> Transaction:
    price = prices[token.symbol]
    if token.source == "proxy":
        aggregator = chain.call(token.feed, "aggregator()", returns=["address"])
        return _post(market.owner, bytes.fromhex(aggregator[2:]), "set(int256)", price)
    bases = {item.feed: symbol for symbol, item in market.tokens.items()}
    base = prices.get(bases.get(token.base, ""))
    if base is None:
        base = chain.call(token.base, "latestAnswer()", returns=["int256"])
    if token.source == "decaying":
        left = chain.call(token.feed, "MATURITY()") - chain.timestamp()
        if left <= 0 or price >= base:
            raise ValueError(f"{token.symbol} can only stand below its base before maturity")
        rate = (base - price) * WAD * 31_536_000 // (base * left)
        return _post(market.owner, token.feed, "setDiscountRatePerYear(uint256)", rate)
    ratio = -(-price * WAD // base)
    return _post(market.owner, token.feed, "setRatio(int256)", ratio)


def _post(owner: bytes, to: bytes, signature: str, value: int) -> Transaction:
    return Transaction(owner, to, calldata(signature, [value]), max_fee=POST_FEE)
