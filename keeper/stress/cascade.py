"""A fall of prices played out: liquidations sell, sales move pools, pools move prices and health.

Liquidators are taken to be as greedy as they are: everyone who can be liquidated at a profit is, at
once, the worst first, with the largest repay that pays. Each sale meets the pools the one before
left. After each round prices follow the pools, until nobody is left whom it pays to liquidate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keeper.ports import LendingProtocol, Plain, Terms, account_of
from keeper.stress.costs import Costs
from keeper.stress.exposure import Exposure
from keeper.stress.losses import Losses
from keeper.stress.moves import moved, together
from keeper.stress.pools import Pools, Sale
from keeper.stress.shapes import Multiples, Shape
from keeper.types import NextBlock, Position, Prices, Seizure, Step, Token
from keeper.units import BPS, USD, WAD, Address, Usd, Wad

_MARGIN = 1.0001
"""Above one, so that the float estimate leaves out nobody; the exact position decides."""
_SHARES = (1, 2, 4, 8, 16)
_ROUNDS = 50
_REFERENCE_USD = 100_000
Account = tuple[str, Address]


@dataclass(frozen=True, slots=True)
class Act:
    """One liquidation of a cascade; amounts in the tokens' units, money in dollars (8 decimals).

    `repaid_usd` is the debt it ended: where a pool of insurers or an auction takes that over, the
    caller repays nothing, and `repaid` is less than 0 where he is paid in the debt's token.
    """

    round: int
    market: str
    borrower: Address
    collateral: Token
    debt: Token
    repaid: int
    received: int
    proceeds: int
    repaid_usd: Usd
    profit_usd: Usd


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did, and the prices it left in dollars by asset."""

    step: int
    acts: int
    repaid_usd: Usd
    profit_usd: Usd
    prices: Mapping[Address, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a cascade ended.

    `bad_debt_usd` is owed by nobody any more or has nothing behind it, `shortfall_usd` what of it is
    more than the market holds against that in the same token; `left_usd` is owed by those who are
    liquidatable and whom it pays nobody to liquidate.
    """

    shape: str
    rounds: tuple[Round, ...]
    acts: tuple[Act, ...]
    bad_debt_usd: Usd
    shortfall_usd: Usd
    left_usd: Usd
    left: int

    @property
    def repaid_usd(self) -> Usd:
        """Return the debt that was liquidated."""
        return Usd(sum(act.repaid_usd for act in self.acts))

    @property
    def profit_usd(self) -> Usd:
        """Return what all liquidators together earned after slippage, premium and gas."""
        return Usd(sum(act.profit_usd for act in self.acts))


@dataclass(frozen=True, slots=True)
class Standing:
    """One market as it stands: the protocol, its prices now and its borrowers' exposure."""

    protocol: LendingProtocol
    prices: Prices
    exposure: Exposure


class Cascade:
    """One run; `feedback` is how much of what sales do to the pools the oracles take over."""

    def __init__(
        self,
        standing: Sequence[Standing],
        pools: Pools,
        tokens: Mapping[Address, Token],
        at: NextBlock,
        costs: Costs,
        feedback: float = 1.0,
    ) -> None:
        self._standing = {each.prices.market: each for each in standing}
        self._pools = pools
        self._tokens = tokens
        self._at = at
        self._costs = costs
        self._feedback = feedback
        self._impact: dict[Address, float] = {}
        self._multiples: dict[Address, float] = {}
        self._claims: dict[Address, Token] = {}
        self._touched: dict[Account, tuple[Position, Prices]] = {}
        self._finished: set[Account] = set()
        self._acts: list[Act] = []
        self._losses = Losses()

    def run(self, shape: Shape) -> Outcome:
        """Play every step of a shape to its end."""
        rounds: list[Round] = []
        prices = {name: each.prices for name, each in self._standing.items()}
        for number, step in enumerate(shape.steps):
            prices = self._priced(step)
            self._pools.arbitrage(*self._fair(prices))
            for _ in range(_ROUNDS):
                acts = self._liquidate(prices, len(rounds))
                shifted = self._follow(acts, prices) if acts else False
                if shifted:
                    prices = self._priced(step)
                rounds.append(
                    Round(
                        number,
                        len(acts),
                        Usd(sum(act.repaid_usd for act in acts)),
                        Usd(sum(act.profit_usd for act in acts)),
                        self._dollars(prices),
                    )
                )
                self._acts += acts
                if not shifted:
                    break
        left, owed = self._left(prices)
        held = {name: each.protocol.backstops() for name, each in self._standing.items()}
        return Outcome(
            shape.name,
            tuple(rounds),
            tuple(self._acts),
            self._losses.total_usd,
            self._losses.shortfall_usd(held, prices),
            owed,
            left,
        )

    def _priced(self, step: Multiples) -> dict[str, Prices]:
        """Return every market's prices at a step, with what sales have done to them."""
        self._multiples = {
            asset: step.get(asset, 1.0) * self._impact.get(asset, 1.0)
            for asset in step.keys() | self._impact.keys()
        }
        return {
            name: moved(each.protocol, each.prices, self._multiples)
            for name, each in self._standing.items()
        }

    def _dollars(self, prices: Mapping[str, Prices]) -> dict[Address, float]:
        found = together((each.protocol, prices[name]) for name, each in self._standing.items())
        return {asset: worth for asset, worth in found.items() if asset in self._tokens}

    def _fair(
        self, prices: Mapping[str, Prices]
    ) -> tuple[dict[Address, float], dict[Address, int]]:
        """Return dollars of one unit of each token, and the units a large trade takes."""
        worth, size = {}, {}
        for asset, dollars in self._dollars(prices).items():
            worth[asset] = dollars / 10 ** self._tokens[asset].decimals
            size[asset] = max(int(_REFERENCE_USD / worth[asset]), 1)
        return worth, size

    def _liquidate(self, prices: Mapping[str, Prices], number: int) -> list[Act]:
        """Take everyone whom it pays to take, as often as it does."""
        acts: list[Act] = []
        fallen = self._fallen(prices)
        mates = len(fallen)
        for position in fallen:
            while (act := self._act(position, prices[position.home], number, mates)) is not None:
                acts.append(act[0])
                position = act[1]  # noqa: PLW2901  # what the call left is what is looked at next
        return acts

    def _fallen(self, prices: Mapping[str, Prices]) -> list[Position]:
        """Return everyone who is liquidatable, exact, the worst first."""
        found: list[Position] = []
        for name, each in self._standing.items():
            backing, owed = each.exposure.at(self._multiples)
            for row in np.flatnonzero(backing < owed * _MARGIN):
                account = each.exposure.accounts[int(row)]
                if (name, account) in self._touched or (name, account) in self._finished:
                    continue
                position = each.protocol.position(account, prices[name], self._at)
                if position is not None and position.health < WAD and position.debt_value:
                    found.append(position)
        for (name, account), (position, then) in self._touched.items():
            if (name, account) not in self._finished:
                protocol = self._standing[name].protocol
                now = repriced(
                    position,
                    _seen(protocol, position, then),
                    _seen(protocol, position, prices[name]),
                    claims(protocol, position, then),
                )
                if now.health < WAD and now.debt_value:
                    found.append(now)
        return sorted(found, key=lambda each: each.health)

    def _act(
        self, position: Position, prices: Prices, number: int, mates: int
    ) -> tuple[Act, Position] | None:
        """Liquidate the pair and part that pays most, or return None when none pays."""
        protocol = self._standing[position.home].protocol
        pairs, _ = protocol.pairs(position, prices, self._at)
        best: tuple[Usd, Terms, int, Seizure, Sale] | None = None
        for terms in pairs:
            found = self._largest_paying(position, terms, prices, mates)
            if found is not None and (best is None or found[0] > best[0]):
                best = found[0], terms, *found[1:]
        if best is None:
            return None
        profit, terms, repay, seizure, sale = best
        self._pools.sell(sale)
        left = protocol.after(position, terms, repay)
        repaid_value = _value(prices, terms.debt, seizure.repaid)
        ended = repaid_value if seizure.repaid > 0 else position.debt_value - left.debt_value
        self._claims |= claims(protocol, position, prices)
        account = position.home, account_of(protocol, position)
        if left.collateral_value == 0:
            if seizure.repaid > 0:
                self._losses.written_off(position, terms.debt, repaid_value, prices)
            else:
                # Its collateral went with its debt: to who insures it, or to an auction.
                self._losses.hollow(position, prices)
            self._finished.add(account)
        self._touched[account] = left, prices
        act = Act(
            number,
            position.market,
            position.borrower,
            terms.collateral,
            terms.debt,
            seizure.repaid,
            seizure.received,
            sale.out,
            prices.usd(ended),
            profit,
        )
        return act, replace(left, health=Wad(WAD)) if account in self._finished else left

    def _largest_paying(
        self, position: Position, terms: Terms, prices: Prices, mates: int
    ) -> tuple[Usd, int, Seizure, Sale] | None:
        """Return profit, repay, seizure and sale of the largest of a few sizes that pays."""
        for share in _SHARES:
            repay = terms.legal_down(terms.maximum // share)
            if not repay:
                return None
            seizure = terms.seize(repay)
            sold, bought = terms.collateral.address, terms.debt.address
            sale = self._pools.best(sold, bought, seizure.received)
            if sale is None:
                continue
            profit = self._profit(position, Step(terms, repay, seizure), sale, prices, mates)
            if profit is not None and profit > 0:
                return profit, repay, seizure, sale
        return None

    def _profit(
        self, position: Position, step: Step, sale: Sale, prices: Prices, mates: int
    ) -> Usd | None:
        """Return what is left of a sale's proceeds in dollars, None without a price or a lender."""
        debt, repaid = step.terms.debt, step.seizure.repaid
        price, lender = prices.get(debt.address), self._costs.lender(step, sale)
        if price is None or lender is None:
            return None
        gain = sale.out - repaid - lender.premium_up(max(repaid, 0))
        gas = self._costs.gas_usd_up(position, step, sale, lender, mates, prices)
        return Usd(gain * price * USD // (10**debt.decimals * prices.unit) - gas)

    def _follow(self, acts: Sequence[Act], prices: Mapping[str, Prices]) -> bool:
        """Let prices take over what the sales did to the pools; tell whether any moved."""
        worth, size = self._fair(prices)
        sold: dict[Address, dict[Address, float]] = {}
        for act in acts:
            asset = self._claims.get(act.collateral.address, act.collateral).address
            pair = sold.setdefault(asset, {})
            brought = act.proceeds * worth.get(act.debt.address, 0.0)
            pair[act.debt.address] = pair.get(act.debt.address, 0.0) + brought
        moved = False
        for asset, bought in sold.items():
            ratios, weights = [], []
            for other, weight in bought.items() if asset in worth else ():
                price = self._pools.price(asset, other, size[asset])
                if price is not None and worth.get(other):
                    ratios.append(price * worth[other] / worth[asset])
                    weights.append(weight)
            if sum(weights) > 0.0:
                ratio = float(np.average(ratios, weights=weights))
                factor = 1 - self._feedback * (1 - ratio)
                if abs(factor - 1) > 1e-9:
                    self._impact[asset] = self._impact.get(asset, 1.0) * factor
                    moved = True
        return moved

    def _left(self, prices: Mapping[str, Prices]) -> tuple[int, Usd]:
        """Return how many are left liquidatable and what they owe; what has nothing behind it is a loss."""
        left = self._fallen(prices)
        owed = 0
        for position in left:
            dollars = prices[position.home]
            owed += int(dollars.usd(position.debt_value))
            self._losses.hollow(position, dollars)
        return len(left), Usd(owed)


def claims(
    protocol: LendingProtocol, position: Position, prices: Prices
) -> Mapping[Address, Token]:
    """Return, by the token that is held, the one whose price its value follows, where they differ."""
    if not isinstance(protocol, Plain):
        return {}
    held, _ = protocol.plain(position, prices)
    return {
        leg.token.address: known.token
        for leg, known in zip(position.collateral, held.collateral, strict=True)
        if leg.token != known.token
    }


def _seen(protocol: LendingProtocol, position: Position, prices: Prices) -> Prices:
    """Return prices as one position's market sees them, by token."""
    return protocol.plain(position, prices)[1] if isinstance(protocol, Plain) else prices


def repriced(
    position: Position, then: Prices, now: Prices, known: Mapping[Address, Token]
) -> Position:
    """Return a position at other prices: each value in proportion, rounded down.

    A claim follows the token that `known` has for it; what no oracle prices, as VAI, keeps its value.
    """

    def at(token: Token, value: int) -> int:
        asset = known.get(token.address, token).address
        before = then.get(asset)
        return value if before is None else value * now.values[asset] // before

    collateral = tuple(replace(leg, value=at(leg.token, leg.value)) for leg in position.collateral)
    debt = tuple(replace(leg, value=at(leg.token, leg.value)) for leg in position.debt)
    backing = sum(leg.value * leg.threshold for leg in collateral)
    owed = sum(leg.value for leg in debt)
    health = Wad(backing * WAD // (owed * BPS)) if owed else position.health
    return replace(
        position,
        collateral=collateral,
        debt=debt,
        collateral_value=sum(leg.value for leg in collateral),
        debt_value=owed,
        health=health,
    )


def _value(prices: Prices, token: Token, amount: int) -> int:
    price: int = prices.values[token.address]
    unit: int = 10**token.decimals
    return amount * price // unit
