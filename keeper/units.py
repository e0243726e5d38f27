"""Integer units and the arithmetic between them; every rounding is in the function's name."""

from typing import NewType

Address = NewType("Address", bytes)
"""20 raw bytes; checksummed text exists only at the rim."""
Hash = NewType("Hash", bytes)
"""32 raw bytes."""
Wei = NewType("Wei", int)
"""Native coin, 18 decimals."""
Wad = NewType("Wad", int)
"""Fixed point with 18 decimals, as in a health factor."""
Ray = NewType("Ray", int)
"""Fixed point with 27 decimals, as in an index or a rate."""
Bps = NewType("Bps", int)
"""Hundredths of a percent; 10_000 is one."""
Usd = NewType("Usd", int)
"""US dollars with 8 decimals."""

WAD = 10**18
RAY = 10**27
BPS = 10_000
USD = 10**8
ZERO_ADDRESS = Address(bytes(20))
MAX_UINT256 = 2**256 - 1


def mul_div_down(a: int, b: int, divisor: int) -> int:
    """Return a·b/divisor rounded towards zero; all operands are non-negative."""
    return a * b // divisor


def mul_div_up(a: int, b: int, divisor: int) -> int:
    """Return a·b/divisor rounded away from zero; all operands are non-negative."""
    return -(-a * b // divisor)


def convert_down(amount: int, price: int, decimals: int, to_price: int, to_decimals: int) -> int:
    """Value `amount` of one token in another at two prices of one base currency, rounded down."""
    unit, to_unit = int(10**decimals), int(10**to_decimals)
    return amount * price * to_unit // (to_price * unit)


def convert_up(amount: int, price: int, decimals: int, to_price: int, to_decimals: int) -> int:
    """Value `amount` of one token in another at two prices of one base currency, rounded up."""
    unit, to_unit = int(10**decimals), int(10**to_decimals)
    return -(-amount * price * to_unit // (to_price * unit))


def at_multiple(price: int, multiple: float) -> int:
    """Return an imagined price, rounded down, and 1 at least; the multiple counts in 1e15ths."""
    return max(price * round(multiple * 10**15) // 10**15, 1)


def to_hex(value: bytes) -> str:
    """Return 0x-prefixed lower-case hex."""
    return "0x" + value.hex()
