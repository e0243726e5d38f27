"""Deploy reserves' tokens and their price sources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_abi.abi import encode

from keeper.devnet.accounts import Cast
from keeper.devnet.calls import calldata
from keeper.devnet.chain import Chain, Transaction
from keeper.devnet.model import Market, Uniswap
from keeper.devnet.prices import aggregator_code, read_prices
from keeper.devnet.reserves import ReserveSpec
from keeper.devnet.solidity import Artifact

_PURSE_USD = 1_000_000_000
_YEAR = 31_536_000
_HALF_YEAR = _YEAR // 2
_PT_DISCOUNT_PER_YEAR = 10**17
_CAP_GROWTH_PER_SECOND = 9 * 10**16 // _YEAR


@dataclass(frozen=True, slots=True)
class Listing:
    """A token and its price source, before a market lists them."""

    spec: ReserveSpec
    address: bytes
    feed: bytes
    base: bytes


def deploy_listings(
    chain: Chain,
    owner: bytes,
    own: Mapping[str, Artifact],
    weth: bytes,
    specs: Sequence[ReserveSpec],
    existing: Mapping[str, Listing],
) -> dict[str, Listing]:
    """Return token and source of every spec; those in `existing` are taken as they are."""
    fresh = [spec for spec in specs if spec.symbol not in existing]
    codes = []
    for spec in fresh:
        kind = "silent_token" if spec.silent else "token"
        args = [spec.symbol, spec.symbol, spec.decimals]
        codes.append(_code(own[kind], ["string", "string", "uint8"], args))
    tokens = dict(zip((s.symbol for s in fresh), chain.deploy_all(owner, codes), strict=True))
    if "WETH" in tokens:
        tokens["WETH"] = weth
    proxies = deploy_proxies(chain, owner, own, [s for s in fresh if s.source == "proxy"])
    proxies |= {symbol: item.base for symbol, item in existing.items()}
    listings = dict(existing)
    for spec in fresh:
        base = proxies[spec.base or spec.symbol]
        feed = base if spec.source == "proxy" else _adapter(chain, owner, own, spec, base)
        listings[spec.symbol] = Listing(spec, tokens[spec.symbol], feed, base)
    return {spec.symbol: listings[spec.symbol] for spec in specs}


def deploy_proxies(
    chain: Chain, owner: bytes, own: Mapping[str, Artifact], specs: Sequence[ReserveSpec]
) -> dict[str, bytes]:
    """Return one price proxy per spec, each with its own aggregator at the starting price."""
    aggregators = chain.deploy_all(
        owner, [aggregator_code(own, spec.symbol, spec.price) for spec in specs]
    )
    proxies = chain.deploy_all(owner, [_code(own["proxy"], ["address"], [a]) for a in aggregators])
    return {spec.symbol: proxy for spec, proxy in zip(specs, proxies, strict=True)}


def mint(
    chain: Chain, owner: bytes, weth: bytes, grants: Sequence[tuple[bytes, bytes, int]]
) -> None:
    """Give `(token, receiver, amount)`; WETH is wrapped from ether made for the purpose."""
    wrapped = sum(amount for token, _, amount in grants if token == weth)
    transactions = []
    if wrapped:
        chain.rpc("anvil_setBalance", "0x" + owner.hex(), hex(wrapped + 10**24))
        chain.send(owner, weth, "deposit()", value=wrapped)
    for token, receiver, amount in grants:
        name = "transfer" if token == weth else "mint"
        transactions.append(call(owner, token, f"{name}(address,uint256)", [receiver, amount]))
    chain.send_all(transactions)


def fund_traders(chain: Chain, market: Market, uniswap: Uniswap) -> None:
    """Give the trader and the rival plenty of every token, and the allowances they need."""
    weth = market.tokens["WETH"].address
    tokens = list(market.tokens.values())
    prices = read_prices(chain, market)
    amounts = [_PURSE_USD * 10**8 * 10**t.decimals // prices[t.symbol] for t in tokens]
    grants = [
        (token.address, holder, amount)
        for token, amount in zip(tokens, amounts, strict=True)
        for holder in (Cast.TRADER, Cast.RIVAL)
    ]
    mint(chain, market.owner, weth, grants)
    approvals = [
        call(holder, token.address, "approve(address,uint256)", args)
        for token in tokens
        for holder, spender in ((Cast.TRADER, uniswap.router), (Cast.RIVAL, market.pool))
        for args in ([spender, 0], [spender, 2**256 - 1])
    ]
    chain.send_all(approvals)


def call(sender: bytes, to: bytes, signature: str, args: Sequence[object]) -> Transaction:
    """Return a transaction that calls `signature` with the usual gas."""
    return Transaction(sender, to, calldata(signature, args))


def _adapter(
    chain: Chain, owner: bytes, own: Mapping[str, Artifact], spec: ReserveSpec, base: bytes
) -> bytes:
    name = f"{spec.symbol} / USD"
    match spec.source:
        case "ratio":
            code = _code(
                own["ratio_adapter"], ["string", "address", "int256"], [name, base, spec.ratio]
            )
        case "capped":
            code = _code(
                own["capped_adapter"],
                ["string", "address", "int256", "int256"],
                [name, base, spec.ratio, _CAP_GROWTH_PER_SECOND],
            )
        case _:
            code = _code(
                own["decaying_adapter"],
                ["string", "address", "uint256", "uint256"],
                [name, base, chain.timestamp() + _HALF_YEAR, _PT_DISCOUNT_PER_YEAR],
            )
    return chain.deploy(owner, code)


def _code(artifact: Artifact, types: Sequence[str], args: Sequence[object]) -> bytes:
    return artifact.linked({}) + encode(types, args)
