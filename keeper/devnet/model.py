"""Name what stands on the local chain: accounts, tokens, markets, pools."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Account:
    """An unlocked, funded account of the test mnemonic."""

    address: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """A reserve: the token, its Aave tokens and its price source.

    `source` is proxy, ratio, capped or decaying. `feed` is what AaveOracle reads; `base` is the
    proxy behind it (the feed itself when it is a proxy).
    """

    symbol: str
    address: bytes
    decimals: int
    a_token: bytes
    v_token: bytes
    source: str
    feed: bytes
    base: bytes
    ltv: int
    liquidation_threshold: int


@dataclass(frozen=True, slots=True)
class Market:
    """One Aave v3.6 market; `owner` is pool, risk and emergency admin."""

    name: str
    owner: bytes
    provider: bytes
    pool: bytes
    configurator: bytes
    oracle: bytes
    acl_manager: bytes
    data_provider: bytes
    rate_strategy: bytes
    treasury: bytes
    crowd: bytes
    tokens: dict[str, Token]


@dataclass(frozen=True, slots=True)
class Pool:
    """A Uniswap V3 pool; `fee` in hundredths of a basis point."""

    address: bytes
    token0: bytes
    token1: bytes
    fee: int


@dataclass(frozen=True, slots=True)
class Uniswap:
    """Uniswap V3: factory, periphery and the pools that hold liquidity."""

    factory: bytes
    router: bytes
    quoter: bytes
    position_manager: bytes
    pools: tuple[Pool, ...]
