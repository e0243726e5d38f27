"""State what the default market lists: terms in basis points, prices in USD with 8 decimals."""

from dataclasses import dataclass
from typing import Literal

Source = Literal["proxy", "ratio", "capped", "decaying"]


@dataclass(frozen=True, slots=True)
class ReserveSpec:
    """Terms of one reserve.

    `price` is the starting price; for a ratio or capped source it is `ratio` (wad) times the price
    of `base`; for a decaying one it follows from maturity. `rates` are optimal usage, base rate,
    slope 1, slope 2. `liquidity` is the first supply and `borrowed` the first debt, in whole USD.
    """

    symbol: str
    decimals: int
    price: int
    ltv: int
    threshold: int
    bonus: int
    fee: int = 1000
    reserve_factor: int = 1000
    rates: tuple[int, int, int, int] = (9000, 0, 270, 8000)
    source: Source = "proxy"
    base: str = ""
    ratio: int = 0
    silent: bool = False
    borrowable: bool = True
    liquidity: int = 400_000_000
    borrowed: int = 120_000_000


@dataclass(frozen=True, slots=True)
class EModeSpec:
    """An eMode category: terms, and the symbols that may be collateral or debt in it."""

    id: int
    label: str
    ltv: int
    threshold: int
    bonus: int
    collateral: tuple[str, ...]
    borrowable: tuple[str, ...]


_STABLE = (9200, 0, 550, 3500)

RESERVES = (
    ReserveSpec(
        "WETH",
        18,
        2_500_00000000,
        8050,
        8300,
        10500,
        reserve_factor=1500,
        liquidity=1_000_000_000,
        borrowed=250_000_000,
    ),
    ReserveSpec(
        "wstETH",
        18,
        3_000_00000000,
        7850,
        8100,
        10600,
        rates=(4500, 0, 700, 30000),
        source="ratio",
        base="WETH",
        ratio=12 * 10**17,
        borrowed=20_000_000,
    ),
    ReserveSpec(
        "WBTC",
        8,
        60_000_00000000,
        7300,
        7800,
        10500,
        reserve_factor=5000,
        rates=(4500, 0, 400, 30000),
        liquidity=800_000_000,
        borrowed=60_000_000,
    ),
    ReserveSpec(
        "USDC",
        6,
        1_00000000,
        7500,
        7800,
        10450,
        rates=_STABLE,
        liquidity=800_000_000,
        borrowed=250_000_000,
    ),
    ReserveSpec(
        "USDT", 6, 1_00000000, 7500, 7800, 10450, rates=_STABLE, silent=True, borrowed=120_000_000
    ),
    ReserveSpec(
        "DAI",
        18,
        1_00000000,
        6300,
        7700,
        10500,
        reserve_factor=2500,
        rates=_STABLE,
        borrowed=100_000_000,
    ),
    ReserveSpec(
        "sUSDe",
        18,
        1_18000000,
        7200,
        7500,
        10850,
        source="capped",
        base="USDT",
        ratio=118 * 10**16,
        borrowable=False,
        borrowed=0,
    ),
    ReserveSpec(
        "PT",
        18,
        95068494,
        7000,
        7500,
        10700,
        source="decaying",
        base="USDC",
        borrowable=False,
        borrowed=0,
        liquidity=100_000_000,
    ),
)

EMODES = (
    EModeSpec(1, "ETH correlated", 9300, 9500, 10100, ("WETH", "wstETH"), ("WETH", "wstETH")),
    EModeSpec(
        2,
        "Stablecoins",
        9000,
        9300,
        10200,
        ("USDC", "USDT", "DAI", "sUSDe"),
        ("USDC", "USDT", "DAI"),
    ),
)

# The second market of `deploy_market`: fewer reserves, another token, other terms.
SECOND_RESERVES = (
    ReserveSpec(
        "WETH",
        18,
        2_500_00000000,
        7000,
        7500,
        10800,
        fee=2000,
        liquidity=100_000_000,
        borrowed=30_000_000,
    ),
    ReserveSpec(
        "LINK",
        18,
        15_00000000,
        6500,
        7000,
        10700,
        fee=500,
        rates=(4500, 0, 700, 30000),
        liquidity=50_000_000,
        borrowed=5_000_000,
    ),
    ReserveSpec(
        "USDC",
        6,
        1_00000000,
        7000,
        7600,
        10600,
        fee=1500,
        rates=_STABLE,
        liquidity=100_000_000,
        borrowed=40_000_000,
    ),
    ReserveSpec(
        "DAI",
        18,
        1_00000000,
        7200,
        7700,
        10400,
        fee=0,
        rates=_STABLE,
        liquidity=50_000_000,
        borrowed=20_000_000,
    ),
)

SECOND_EMODES = (EModeSpec(7, "Dollar", 8800, 9000, 10300, ("USDC", "DAI"), ("USDC", "DAI")),)


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A Uniswap pool: its tokens, fee, and the USD put on each side at the starting price.

    `ranges` are (half width in ticks, share in percent) of that depth.
    """

    a: str
    b: str
    fee: int
    depth: int
    ranges: tuple[tuple[int, int], ...] = ((1_200, 30), (6_000, 45), (30_000, 25))


_TIGHT = ((20, 55), (200, 35), (20_000, 10))

POOLS = (
    PoolSpec("WETH", "USDC", 500, 60_000_000),
    PoolSpec("WETH", "USDC", 3000, 25_000_000),
    PoolSpec("WETH", "USDT", 3000, 20_000_000),
    PoolSpec("WBTC", "WETH", 500, 25_000_000),
    PoolSpec("WBTC", "WETH", 3000, 40_000_000),
    PoolSpec("WBTC", "USDC", 3000, 3_000_000),
    PoolSpec("DAI", "WETH", 3000, 8_000_000),
    PoolSpec("DAI", "USDC", 100, 50_000_000, _TIGHT),
    PoolSpec("USDC", "USDT", 100, 60_000_000, _TIGHT),
    PoolSpec("wstETH", "WETH", 100, 40_000_000, ((60, 60), (1_000, 30), (20_000, 10))),
    PoolSpec("sUSDe", "USDC", 500, 15_000_000, ((60, 60), (1_000, 30), (20_000, 10))),
    PoolSpec("PT", "USDC", 3000, 5_000_000, ((600, 60), (6_000, 40))),
    PoolSpec("WETH", "USDC", 10000, 1_500_000, ((6_000, 60), (30_000, 40))),
)
SECOND_POOLS = (PoolSpec("LINK", "WETH", 3000, 10_000_000),)
