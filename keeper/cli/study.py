"""What the best calls on a recorded position would have earned, at the oracle's prices and no gas."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from keeper.cli.case_file import Case
from keeper.errors import ConfigError
from keeper.journal.history import decimal
from keeper.planning.fixed_spread import FixedSpread, exchange_rate_of
from keeper.planning.sequencing import Move, best_sequence
from keeper.ports import Terms
from keeper.types import Position, Token
from keeper.units import BPS, USD, WAD, ZERO_ADDRESS, Address, Bps

ONE, TWO, ANY = "best one call", "best two steps", "best two calls on any pair"
_OTHER_DECIMALS = 18


@dataclass(frozen=True, slots=True)
class Study:
    """A case's outcome: values in dollars of 18 decimals, `ways` the best calls by strategy."""

    case: Case
    exchange_rate: int
    price: int
    earned: int
    ways: Mapping[str, tuple[Move, ...]]

    @property
    def gain(self) -> int:
        """Return what two steps earn over one call."""
        return self._value(TWO) - self._value(ONE)

    @property
    def gain_over_actual(self) -> int:
        """Return what two steps earn over what was done."""
        return self._value(TWO) - self.earned

    def whole(self, amount: int, digits: int | None = None) -> str:
        """Show an amount of the repaid token."""
        return _shown(Fraction(amount, 10**self.case.decimals), digits)

    def tokens(self, value: int, digits: int | None = None) -> str:
        """Show a value in the repaid token."""
        return _shown(Fraction(value, self.price), digits)

    def _value(self, name: str) -> int:
        return sum(move.value for move in self.ways[name])


@dataclass(frozen=True, slots=True)
class _AtOracle:
    """A trade at the oracle's prices without gas, on one token alone or on all."""

    prices: Mapping[Address, int]
    only: Address | None

    def best(self, position: Position, terms: Terms) -> int:
        return self.most(position, terms)

    def bound(self, position: Position, terms: Terms) -> int:
        return self.value(position, terms, self.most(position, terms))

    def most(self, position: Position, terms: Terms) -> int:
        del position
        if self.only not in {None, terms.debt.address} or self.only not in {
            None,
            terms.collateral.address,
        }:
            return 0
        return terms.legal_down(terms.maximum)

    def value(self, position: Position, terms: Terms, repay: int) -> int:
        del position
        seizure = terms.seize(repay)
        return self._worth(terms.collateral, seizure.received) - self._worth(
            terms.debt, seizure.repaid
        )

    def after(self, position: Position, terms: Terms, repay: int) -> "_AtOracle":
        del position, terms, repay
        return self

    def _worth(self, token: Token, amount: int) -> int:
        return amount * self.prices[token.address] // int(10**token.decimals)


def study(case: Case) -> Study:
    """Recompute a case's call, and find the best ones; raise `ConfigError` when it is another's."""
    price, incentive = _wad(case.price), _wad(case.incentive)
    rate = exchange_rate_of(case.repaid, case.seized, incentive, price, price)
    if rate is None:
        raise ConfigError(
            f"no exchange rate of {case.seize_token} makes {case.repaid} seize {case.seized}",
            "check repay_amount_wei, seize_tokens_raw and liquidation_incentive",
        )
    tokens = {
        name: Token(Address(bytes([number]) * 20), name.upper(), _OTHER_DECIMALS)
        for number, name in enumerate({**case.supplied, **case.borrowed}, 1)
    }
    repaid = case.repay_token.lower()
    tokens[repaid] = Token(tokens[repaid].address, case.repay_token, case.decimals)
    prices = {token.address: price if name == repaid else WAD for name, token in tokens.items()}
    rules = FixedSpread(prices, _wad(case.close_factor))
    threshold = Bps(round(case.threshold * BPS))
    position = rules.position(
        ZERO_ADDRESS,
        [
            (
                tokens[name],
                _amount(tokens[name], whole),
                threshold,
                Bps(round(case.incentive * BPS)),
            )
            for name, whole in case.supplied.items()
        ],
        [(tokens[name], _amount(tokens[name], whole)) for name, whole in case.borrowed.items()],
    )
    one = _AtOracle(prices, tokens[repaid].address)
    ways = {
        ONE: best_sequence(position, rules, one, 1),
        TWO: best_sequence(position, rules, one, 2),
        ANY: best_sequence(position, rules, _AtOracle(prices, None), 2),
    }
    earned = case.repaid * price * (incentive - WAD) // WAD // int(10**case.decimals)
    return Study(case, rate, price, earned, ways)


def _wad(value: Fraction) -> int:
    return value.numerator * WAD // value.denominator


def _amount(token: Token, whole: Fraction) -> int:
    return int(whole.numerator * 10**token.decimals // whole.denominator)


def _shown(value: Fraction, digits: int | None) -> str:
    if digits is not None:
        return f"{float(value):,.{digits}f}"
    return decimal(round(value * USD), 8)
