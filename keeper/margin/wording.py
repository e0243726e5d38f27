"""Figures as people read them; nothing here is computed with again."""

from functools import lru_cache

from eth_utils.address import to_checksum_address

from keeper.margin.figures import Crossing, Remedy
from keeper.types import Prices, Token
from keeper.units import USD, WAD, Address, mul_div_down, mul_div_up

_NAMES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def health_words(health: int) -> str:
    """Return a health to four digits, rounded down so that none under one reads 1.0000."""
    if health >= 1_000 * WAD:
        return "over 1,000"
    return f"{health * 10_000 // WAD / 10_000:,.4f}"


def amount_words(token: Token, amount: int, *, up: bool = False) -> str:
    """Return an amount with its symbol, to six significant digits or two decimals."""
    whole = max(len(str(amount // 10**token.decimals)), 1)
    digits = min(max(6 - whole, 2), token.decimals)
    round_to = mul_div_up if up else mul_div_down
    shown = round_to(amount, 10**digits, 10**token.decimals)
    return f"{shown // 10**digits:,}{_fraction(shown, digits)} {token.symbol}"


def price_words(crossing: Crossing, unit: int) -> str:
    """Return where a price brings a liquidation, as "WETH ≤ 2,413.52".

    To two decimals, of less than ten to four, and of less than a tenth to four significant digits, as
    far as its unit has them.
    """
    digits = 2 if crossing.price >= 10 * unit else 4
    while digits < len(str(unit - 1)) and crossing.price * 10**digits < 1_000 * unit:
        digits += 1
    round_to = mul_div_down if crossing.is_fall else mul_div_up
    shown = round_to(crossing.price, 10**digits, unit)
    sign = "≤" if crossing.is_fall else "≥"
    text = f"{shown // 10**digits:,}{_fraction(shown, digits)}"
    return f"{crossing.token.symbol} {sign} {text}"


def move_words(crossing: Crossing, prices: Prices) -> str:
    """Return how far that is from the price now, as "-8.1 %"."""
    now = prices.get(crossing.token.address) or crossing.price
    return f"{100 * (crossing.price / now - 1):+.1f} %"


def remedy_words(remedy: Remedy) -> str:
    """Return an amount that suffices."""
    return amount_words(remedy.token, remedy.amount, up=True)


def usd_words(value: int) -> str:
    """Return dollars."""
    return f"{value // USD:,} USD"


def chance_words(chance: float) -> str:
    """Return a probability in percent."""
    if chance < 0.001:
        return "under 0.1 %"
    return f"{100 * chance:.1f} %" if chance < 0.1 else f"{100 * chance:.0f} %"


def span_words(seconds: float) -> str:
    """Return a span of time in its largest whole unit."""
    for size, name in _NAMES:
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)} {name}"
    return f"{seconds:g} s"


@lru_cache(maxsize=4096)
def checksummed(address: Address) -> str:
    """Return an address as everybody writes it; tokens are written often, and each takes a hash."""
    return to_checksum_address(address)


def short(address: Address) -> str:
    """Return an address as 0x7a3F…c41f."""
    text = checksummed(address)
    return f"{text[:6]}…{text[-4:]}"


def _fraction(shown: int, digits: int) -> str:
    return f".{shown % 10**digits:0{digits}d}" if digits else ""
