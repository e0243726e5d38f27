"""Which pools are left out: what the owner does not allow, dust, and those far off the oracle."""

from collections.abc import Callable, Iterable, Mapping

from keeper.planning.routing import Sales
from keeper.types import Hop, Token, View
from keeper.units import BPS, USD, Address, Bps, Usd

_PROBE = Usd(USD)
"""A trial sale that shows a pool's own price."""
_KEPT_BPS = 5_000
"""What of its own price a pool has to give for a sale of the least depth."""


class Trust:
    """Compares pools with the oracle of the market that prices both tokens, once for a view.

    A pool whose price is further off than `limit`, in our favour or against, was moved there by
    somebody, or nobody trades in it; one that gives less than half its price for a sale worth
    `depth` is dust. A pool with a token that no oracle prices is not judged, nor an offer that takes
    one amount alone. What the contract may not call (`sells`) is left out, whatever it brings.
    """

    def __init__(
        self,
        view: View,
        sales: Sales,
        limit: Bps | None,
        depth: Usd | None,
        tokens: Iterable[Token],
        sells: Callable[[Hop], bool],
    ) -> None:
        self._sells = sells
        self._sales = sales
        self._limit = limit
        self._depth = depth
        known = {**view.tokens, **{token.address: token for token in tokens}}
        self._values = _dollars(view, known)
        self._found: dict[tuple[str, Address, Address], str] = {}

    def __call__(self, hop: Hop) -> bool:
        """Say whether a pool may be sold through."""
        key = (hop.venue, hop.pool, hop.token_in)
        why = self._found.get(key)
        if why is None:
            why = self._found[key] = self._refusal(hop)
        return not why

    def refusals(self, token_in: Address, token_out: Address) -> str:
        """Say which pools were left out that take the one or give the other; empty for none."""
        found = sorted(
            {
                f"{venue} pool 0x{pool.hex()[:8]}… {why}"
                for (venue, pool, token), why in self._found.items()
                if why and (token in {token_in, token_out} or self._ends(venue, pool, token_out))
            }
        )
        return ", ".join(found)

    def _ends(self, venue: str, pool: Address, token: Address) -> bool:
        return any(key[:2] == (venue, pool) and key[2] == token for key in self._found)

    def _refusal(self, hop: Hop) -> str:
        if not self._sells(hop):
            return "is not allowed by the contract's owner"
        if hop.least:
            return ""
        value_in, value_out = self._values.get(hop.token_in), self._values.get(hop.token_out)
        if not value_in or not value_out:
            return ""
        small = max(int(_PROBE / value_in), 1)
        spot = self._sales.quote((hop,), small) * value_out / (small * value_in)
        if self._depth is not None:
            deep = max(int(self._depth / value_in), 1)
            whole = self._sales.quote((hop,), deep) * value_out / (deep * value_in)
            if whole * BPS < spot * _KEPT_BPS or spot == 0:
                return "is dust"
        off = round(abs(spot - 1) * BPS)
        if self._limit is not None and off > self._limit:
            return f"is {off} bps off the oracle"
        return ""


def _dollars(view: View, tokens: Mapping[Address, Token]) -> Mapping[Address, float]:
    """Return dollars per smallest unit of every token a market prices; the first market counts."""
    found: dict[Address, float] = {}
    for prices in view.prices.values():
        for address, price in prices.values.items():
            token = tokens.get(address)
            if token is not None and address not in found and price:
                found[address] = prices.usd(price) / 10**token.decimals
    return found
