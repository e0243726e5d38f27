"""Plans as the line makes them, with every noun filled in."""

from dataclasses import dataclass, field

from eth_hash.auto import keccak

from keeper.types import (
    AtRisk,
    Bid,
    Cause,
    CollateralLeg,
    DebtLeg,
    FlashKind,
    FlashSource,
    Head,
    Hop,
    Included,
    ItemOutcome,
    NextBlock,
    Opportunity,
    Plan,
    Portion,
    Position,
    Prices,
    Quote,
    Seizure,
    Signed,
    Step,
    Token,
    View,
)
from keeper.units import USD, ZERO_ADDRESS, Address, Bps, Hash, Usd, Wad, Wei

GWEI = 10**9
MARKET = "aave-v3"


def address(name: str) -> Address:
    """Return the address of a name."""
    return Address(keccak(name.encode())[12:])


def block_hash(number: int, fork: str = "") -> Hash:
    """Return the hash of a block on a fork."""
    return Hash(keccak(f"{number}{fork}".encode()))


USDC = Token(address("USDC"), "USDC", 6)
WETH = Token(address("WETH"), "WETH", 18)
CONTRACT = address("liquidator")
OPERATOR_KEY = keccak(b"operator")


@dataclass(frozen=True, slots=True)
class PairTerms:
    """Terms of one pair that seize five percent more than repaid at 2,000 USDC a WETH."""

    collateral: Token = WETH
    debt: Token = USDC
    maximum: int = 1_000 * 10**6
    bonus: Bps = Bps(10_500)
    scaled_debt: int = 1_600 * 10**6

    def legal_down(self, repay: int) -> int:
        """Return what may be repaid."""
        return min(repay, self.maximum)

    def seize(self, repay: int) -> Seizure:
        """Return what is seized."""
        received = repay * 10**12 * 105 // 100 // 2_000
        return Seizure(repay, received, 0)


def make_head(number: int = 100, fork: str = "") -> Head:
    """Return a header twelve seconds after its parent."""
    return Head(
        number=number,
        hash=block_hash(number, fork),
        parent=block_hash(number - 1, fork),
        timestamp=1_800_000_000 + 12 * number,
        base_fee=Wei(GWEI),
        gas_used=15_000_000,
        gas_limit=30_000_000,
    )


def make_position(borrower: Address) -> Position:
    """Return a position at health 0.98."""
    return Position(
        market=MARKET,
        protocol="aave-v3",
        borrower=borrower,
        collateral=(CollateralLeg(WETH, 10**18, 2_000 * USD, Bps(8_300), Bps(10_500)),),
        debt=(DebtLeg(USDC, 1_694 * 10**6, 1_694 * USD),),
        collateral_value=2_000 * USD,
        debt_value=1_694 * USD,
        health=Wad(98 * 10**16),
    )


def make_opportunity(borrower: Address) -> Opportunity:
    """Return a chosen position."""
    return Opportunity(make_position(borrower), (PairTerms(),), Cause.PRICE, "profitability")


def make_quote(borrower: Address) -> Quote:
    """Return a quote that nets 40 USDC."""
    repay = 800 * 10**6
    terms = PairTerms()
    return Quote(
        opportunity=make_opportunity(borrower),
        steps=(Step(terms, repay, terms.seize(repay)),),
        routes=(Portion((Hop("uniswap-v3", address("pool"), WETH.address, USDC.address),)),),
        flash=FlashSource(FlashKind.AAVE, address("lender"), USDC.address, 10**15, 500),
        debt=USDC,
        gas=400_000,
        proceeds=840_800_000,
        repaid=repay,
        premium=400_000,
        gas_cost=400_000,
        net=40_000_000,
        net_usd=Usd(40 * USD),
        minimum_profit=5_000_000,
        gross_usd=Usd(4_040_000_000),
    )


def make_prices() -> Prices:
    """Return the market's prices: a dollar and two thousand."""
    return Prices(MARKET, USD, {USDC.address: USD, WETH.address: 2_000 * USD})


def make_view(head: Head, borrowers: tuple[Address, ...] = ()) -> View:
    """Return a view in which the given borrowers are at risk."""
    at_risk = tuple(
        AtRisk(make_position(borrower), (PairTerms(),), (), Cause.PRICE) for borrower in borrowers
    )
    return View(
        chain="test",
        head=head,
        next_block=NextBlock(head.number + 1, head.timestamp + 12, head.base_fee),
        at_risk=at_risk,
        prices={MARKET: make_prices()},
        tokens={USDC.address: USDC, WETH.address: WETH},
        native=WETH,
    )


@dataclass(slots=True)
class Plans:
    """Make plans with running ids."""

    made: int = field(default=0)

    def make(self, *borrowers: Address, head: Head | None = None, deadline: int = 0) -> Plan:
        """Return a plan that liquidates some borrowers, or one of its own."""
        self.made += 1
        head = head or make_head()
        quotes = tuple(
            make_quote(borrower) for borrower in borrowers or (address(f"borrower {self.made}"),)
        )
        return Plan(
            id=f"plan-{self.made:04d}",
            chain="test",
            head=head,
            next_block=NextBlock(head.number + 1, head.timestamp + 12, head.base_fee),
            quotes=quotes,
            bid=Bid(Wei(GWEI), Wei(3 * GWEI), deadline or head.timestamp + 120),
            contract=CONTRACT,
            calldata=b"run" + self.made.to_bytes(4, "big"),
            gas_limit=600_000 * len(quotes),
            gas=400_000 * len(quotes),
            gas_cost=Wei(800_000 * GWEI * len(quotes)),
            gross_usd=Usd(4_040_000_000 * len(quotes)),
            net_usd=Usd(40 * USD * len(quotes)),
            repaid_usd=Usd(800 * USD * len(quotes)),
            prices={ZERO_ADDRESS: Usd(2_000 * USD), USDC.address: Usd(USD)},
        )


SENDER = address("operator")


def tx_of(plan: Plan) -> Hash:
    """Return the hash a plan's transaction has in these tests."""
    return Hash(plan.id.encode().ljust(32, b"\1"))


def signed(plan: Plan, nonce: int = 0) -> Signed:
    """Return a signed plan."""
    return Signed(plan, SENDER, nonce, b"\2raw" + plan.id.encode(), tx_of(plan))


def included(plan: Plan, *failed: bytes) -> Included:
    """Return a receipt in which 40.4 USDC came in for each item that held."""
    items = tuple(
        ItemOutcome.of(quote, borrower not in failed, 0 if borrower in failed else 40_400_000)
        for quote in plan.quotes
        for borrower in (quote.opportunity.position.borrower,)
    )
    gain = sum(item.gain for item in items)
    return Included(
        plan_id=plan.id,
        tx_hash=tx_of(plan),
        block_number=101,
        block_hash=make_head(101).hash,
        timestamp=1_800_001_212,
        gas_used=400_000,
        gas_price=Wei(2 * GWEI),
        gains={USDC.address: gain},
        items=items,
        revenue_usd=Usd(gain * 100),
        gas_cost_usd=Usd(1_60000000),
        tip_usd=Usd(0),
        net_usd=Usd(gain * 100 - 1_60000000),
    )
