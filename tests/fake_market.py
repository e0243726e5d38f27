"""A small lending market and its Uniswap V3 pools, in memory, for planning and strategy tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isqrt, log

from keeper.ports import Terms
from keeper.types import (
    AtRisk,
    Cause,
    CollateralLeg,
    DebtLeg,
    FlashKind,
    FlashSource,
    Head,
    Limits,
    Opportunity,
    PoolLiquidation,
    Position,
    Prices,
    Seizure,
    Token,
    View,
)
from keeper.units import BPS, USD, Address, Bps, Hash, Usd, Wad, Wei
from keeper.venues.uniswap_v3 import UniswapV3
from keeper.venues.uniswap_v3.pool import Point, Pool

GWEI = 10**9
AAVE = Address(b"\xaa" * 20)
FACTORY = Address(b"\xfa" * 20)
CONTRACT = Address(b"\xcc" * 20)
MARKET = "market"


def token(number: int, symbol: str, decimals: int) -> Token:
    """Return a token at an address made of its number."""
    return Token(Address(bytes([number]) * 20), symbol, decimals)


WETH = token(1, "WETH", 18)
USDC = token(2, "USDC", 6)
WBTC = token(3, "WBTC", 8)
DAI = token(4, "DAI", 18)
TOKENS = (WETH, USDC, WBTC, DAI)
VALUES = {WETH: 2_000 * USD, USDC: USD, WBTC: 40_000 * USD, DAI: USD}
SPACINGS = {100: 1, 500: 10, 3000: 60, 10_000: 200}


@dataclass(frozen=True)
class FakeTerms:
    """Linear terms: repay up to `maximum`, legal up to `partial` or in full."""

    collateral: Token
    debt: Token
    maximum: int
    bonus: Bps = Bps(10_500)
    partial: int | None = None
    scaled_debt: int = 10**6

    def legal_down(self, repay: int) -> int:
        if repay >= self.maximum:
            return self.maximum
        return max(0, min(repay, self.maximum if self.partial is None else self.partial))

    def seize(self, repay: int) -> Seizure:
        value = repay * VALUES[self.debt] * 10**self.collateral.decimals
        base = value // (VALUES[self.collateral] * 10**self.debt.decimals)
        return Seizure(repay, base * self.bonus // BPS, 0)


@dataclass(frozen=True)
class FakeChoice:
    """An opportunity with its limits."""

    opportunity: Opportunity
    limits: Limits


@dataclass
class FakeLender:
    """As much of a lending protocol as planning asks for: flash loans and where to call."""

    market: str = MARKET
    fee_ppm: int = 500
    available: Mapping[Address, int] = field(
        default_factory=lambda: {t.address: 10**7 * 10**t.decimals for t in TOKENS}
    )

    liquidity: Mapping[Address, int] = field(default_factory=dict)
    stopped: str = ""

    def withdrawable(self, asset: Address) -> int | None:
        return self.liquidity.get(asset)

    def flash_sources(self, asset: Address) -> Sequence[FlashSource]:
        held = self.available.get(asset, 0)
        return (FlashSource(FlashKind.AAVE, AAVE, asset, held, self.fee_ppm),) if held else ()

    def execution(self, terms: Terms) -> PoolLiquidation:
        return PoolLiquidation(*self.liquidation_target(terms.debt.address))

    def liquidation_target(self, debt: Address) -> tuple[Address, Address]:
        return AAVE, Address(bytes([debt[0] + 0x80]) * 20)


def pool(number: int, a: Token, b: Token, fee: int, depth_usd: int) -> Pool:
    """Return a full-range pool at the market's prices with `depth_usd` of each token."""
    first, second = sorted((a, b), key=lambda t: t.address)
    units = [10**t.decimals * USD for t in (first, second)]
    amounts = [
        depth_usd * unit // VALUES[t] for t, unit in zip((first, second), units, strict=True)
    ]
    price = isqrt((amounts[1] << 192) // amounts[0])
    spacing = SPACINGS[fee]
    edge = 887_272 // spacing * spacing
    made = Pool(Address(bytes([0xB0, number]) * 10), first.address, second.address, fee, spacing)
    liquidity = isqrt(amounts[0] * amounts[1])
    made.add_liquidity(-edge, liquidity, liquidity)
    made.add_liquidity(edge, liquidity, -liquidity)
    made.at = Point(price, int(2 * log(price / 2**96) / log(1.0001)), liquidity)
    made.balance0, made.balance1 = amounts
    return made


def venue(*pools: Pool) -> UniswapV3:
    """Return a venue that holds these pools."""
    made = UniswapV3("uniswap", FACTORY, [t.address for t in TOKENS])
    made.adopt(pools)
    return made


def borrower(number: int) -> Address:
    """Return a borrower's address."""
    return Address(b"\xbb" * 18 + number.to_bytes(2, "big"))


def position(number: int, *pairs: FakeTerms, market: str = MARKET) -> Position:
    """Return a position that holds each pair's tokens."""
    collateral = {
        pair.collateral: CollateralLeg(pair.collateral, 10**30, 0, Bps(8_000), pair.bonus)
        for pair in pairs
    }
    debt = {pair.debt: DebtLeg(pair.debt, pair.maximum, 0) for pair in pairs}
    return Position(
        market,
        "aave-v3",
        borrower(number),
        tuple(collateral.values()),
        tuple(debt.values()),
        0,
        0,
        Wad(99 * 10**16),
    )


def choice(
    number: int,
    *pairs: FakeTerms,
    minimum: int = USD,
    largest: int | None = None,
    strategy: str = "profitability",
    venues: frozenset[str] | None = None,
) -> FakeChoice:
    """Return a strategy's choice of one position."""
    opportunity = Opportunity(position(number, *pairs), pairs, Cause.PRICE, strategy)
    limits = Limits(Usd(minimum), None if largest is None else Usd(largest), venues)
    return FakeChoice(opportunity, limits)


def view(
    *at_risk: AtRisk, values: Mapping[Token, int] | None = None, base_fee: int = 10 * GWEI
) -> View:
    """Return a view whose market prices tokens in dollars of eight decimals."""
    prices = VALUES if values is None else values
    head = Head(
        100, Hash(b"\x64" * 32), Hash(b"\x63" * 32), 1_200, Wei(base_fee), 15_000_000, 30_000_000
    )
    return View(
        chain="test",
        head=head,
        next_block=head.next_block(12),
        at_risk=tuple(at_risk),
        prices={MARKET: Prices(MARKET, USD, {t.address: p for t, p in prices.items()}, head.hash)},
        tokens={t.address: t for t in TOKENS},
        native=WETH,
    )
