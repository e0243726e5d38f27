"""Read one recorded liquidation with a fixed spread from JSON; every amount in it is text.

| key | what |
|---|---|
| `protocol`, `borrower`, `tx`, `block` | what is printed on top; optional |
| `repay_token`, `seize_token` | symbols; the seized token wraps the token repaid |
| `repay_decimals` | of the repaid token; optional, 18 |
| `repay_amount_wei`, `seize_tokens_raw` | what the call repaid and seized, in smallest units |
| `close_factor`, `liquidation_incentive` | decimals: 0.5, 1.08 |
| `collateral_factor…` | decimal, the same for all tokens; the key may go on with `_` and say which |
| `oracle_price_in_tx` | dollars the repaid token was worth in the call |
| `state_n_minus_1` | two or more of `{TOKEN_price, liquidity_usd or shortfall_usd}`, one at that price |
| `paper_table_values…` | `TOKEN_borrowed` for each debt and `TOKEN_supplied` for each collateral |

TOKEN is a symbol in small letters. There are two tokens at most, and the other one is worth a dollar.
The account's liquidity is linear in the one price that moves, so two states tell exactly what is
supplied for what is borrowed: amounts supplied follow from those, and the table, which may be
rounded, has to agree with them to a hundredth.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

from keeper.errors import ConfigError
from keeper.units import BPS

_AGREES = Fraction(1, 100)
"""How far an amount of the table, which is rounded, may be from what the states say."""
_MAGNITUDE = 60


@dataclass(frozen=True, slots=True)
class Case:
    """A recorded call and the account it was made on; amounts supplied and borrowed are whole tokens.

    `shortfall` is in dollars at `price`, as recorded; `critical` the price from which there is one.
    """

    title: str
    repay_token: str
    seize_token: str
    decimals: int
    repaid: int
    seized: int
    close_factor: Fraction
    incentive: Fraction
    threshold: Fraction
    price: Fraction
    shortfall: Fraction
    critical: Fraction
    supplied: Mapping[str, Fraction]
    borrowed: Mapping[str, Fraction]


def read_case(path: Path) -> Case:
    """Return the case in a file; raise `ConfigError` saying what is wrong with it."""
    return _Reading(path, _load(path)).case()


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", "give a case file") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is no case: it has to be one JSON object")
    return found


class _Reading:
    """Values of one file, and complaints that name it."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self._path = path
        self._values = values

    def case(self) -> Case:
        token, wrapped = self._text("repay_token"), self._text("seize_token")
        name = token.lower()
        price, threshold = self._number("oracle_price_in_tx"), self._number("collateral_factor")
        incentive = self._number("liquidation_incentive")
        close_factor = self._number("close_factor")
        if not 0 < threshold < 1 or not 0 < close_factor <= 1 or incentive <= 1 or price <= 0:
            raise self._fault(
                "a price or factor is out of range",
                "the incentive is over 1, the factors are between 0 and 1",
            )
        if any((each * BPS).denominator != 1 for each in (threshold, incentive)):
            raise self._fault(
                "collateral_factor and liquidation_incentive have four digits at most"
            )
        states = self._states(f"{name}_price")
        slope, rest = self._line(states)
        if price not in states or states[price] >= 0:
            raise self._fault(
                f"state_n_minus_1 has no shortfall at the price {float(price)} of the call"
            )
        table = self._table()
        tokens = {key.rpartition("_")[0] for key in table}
        if f"{name}_borrowed" not in table or len(tokens) > 2:
            raise self._fault(f"the table needs {name}_borrowed, and one other token at most")
        borrowed = {each: table.get(f"{each}_borrowed", Fraction(0)) for each in sorted(tokens)}
        supplied = {
            each: ((slope if each == name else rest) + borrowed[each]) / threshold
            for each in borrowed
        }
        for each, amount in supplied.items():
            told = table.get(f"{each}_supplied", Fraction(0))
            if amount < 0 or abs(told - amount) > _AGREES * (amount + 1):
                raise self._fault(
                    f"{each}_supplied is {float(told):,.0f} and the states say {float(amount):,.0f}"
                )
        decimals = self._values.get("repay_decimals", 18)
        if type(decimals) is not int or not 0 <= decimals <= 36:
            raise self._fault("repay_decimals is no number of decimals")
        return Case(
            title=" · ".join(
                str(self._values[key])
                for key in ("protocol", "block", "borrower", "tx")
                if key in self._values
            ),
            repay_token=token,
            seize_token=wrapped,
            decimals=decimals,
            repaid=self._integer("repay_amount_wei"),
            seized=self._integer("seize_tokens_raw"),
            close_factor=close_factor,
            incentive=incentive,
            threshold=threshold,
            price=price,
            shortfall=-states[price],
            critical=-rest / slope,
            supplied=supplied,
            borrowed=borrowed,
        )

    def _states(self, price_key: str) -> dict[Fraction, Fraction]:
        rows = self._values.get("state_n_minus_1")
        if not isinstance(rows, list) or len(rows) < 2:
            raise self._fault("state_n_minus_1 has to be a list of two states or more")
        states: dict[Fraction, Fraction] = {}
        for row in rows:
            if not isinstance(row, dict) or not row.keys() & {"liquidity_usd", "shortfall_usd"}:
                raise self._fault("a state has neither liquidity_usd nor shortfall_usd")
            inner = _Reading(self._path, row)
            signed = (
                inner._number("liquidity_usd")
                if "liquidity_usd" in row
                else -inner._number("shortfall_usd")
            )
            states[inner._number(price_key)] = signed
        return states

    def _line(self, states: Mapping[Fraction, Fraction]) -> tuple[Fraction, Fraction]:
        """Return what liquidity gains per dollar of price, and what it is at a price of zero."""
        low, high = min(states), max(states)
        if low == high:
            raise self._fault("state_n_minus_1 has one price only")
        slope = (states[high] - states[low]) / (high - low)
        rest = states[low] - slope * low
        for price, liquidity in states.items():
            if abs(slope * price + rest - liquidity) > Fraction(1, 1_000):
                raise self._fault(f"the state at {float(price)} is not on a line with the others")
        if slope == 0:
            raise self._fault("the price of the repaid token changes nothing in state_n_minus_1")
        return slope, rest

    def _table(self) -> dict[str, Fraction]:
        found = next(
            (value for key, value in self._values.items() if key.startswith("paper_table_values")),
            None,
        )
        if not isinstance(found, dict):
            raise self._fault("paper_table_values is missing")
        inner = _Reading(self._path, found)
        return {key: inner._number(key) for key in found}

    def _text(self, key: str) -> str:
        value = self._values.get(key)
        if not isinstance(value, str) or not value:
            raise self._fault(f"{key} is missing")
        return value

    def _number(self, key: str) -> Fraction:
        found = [value for name, value in self._values.items() if name == key]
        found += [value for name, value in self._values.items() if name.startswith(f"{key}_")]
        if not found:
            raise self._fault(f"{key} is missing")
        try:
            value = Decimal(found[0]) if isinstance(found[0], str) else Decimal("nan")
        except InvalidOperation:
            value = Decimal("nan")
        if not value.is_finite() or abs(value.adjusted()) > _MAGNITUDE:
            raise self._fault(f"{key} has to be a decimal number in quotes")
        return Fraction(value)

    def _integer(self, key: str) -> int:
        value = self._number(key)
        if value.denominator != 1 or value <= 0:
            raise self._fault(f"{key} has to be a whole number of smallest units")
        return value.numerator

    def _fault(self, what: str, hint: str = "") -> ConfigError:
        return ConfigError(f"{self._path}: {what}", hint)
