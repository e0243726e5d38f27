"""Which tokens and protocols may be touched at all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from keeper.errors import ConfigError
from keeper.types import Plan, Token
from keeper.units import Address, to_hex


@dataclass(frozen=True, slots=True)
class Lists:
    """Allow and deny lists; None allows all, and what is denied is denied in any case."""

    allowed_tokens: frozenset[Address] | None = None
    denied_tokens: frozenset[Address] = frozenset()
    allowed_protocols: frozenset[str] | None = None
    denied_protocols: frozenset[str] = frozenset()

    def refusal(self, protocol: str, collateral: Token, debt: Token) -> str:
        """Say why a pair may not be touched, empty when it may.

        A claim on a token is listed by either name, and denied by either.
        """
        if protocol in self.denied_protocols or not _within(protocol, self.allowed_protocols):
            return f"protocol {protocol} is not allowed here"
        for token in (collateral, debt):
            names = {token.address, token.claim_on}
            allowed = self.allowed_tokens
            if names & self.denied_tokens or (allowed is not None and not names & allowed):
                return f"token {token.symbol} is not allowed here"
        return ""

    def refuse(self, plan: Plan) -> str:
        """Say why a plan may not be sent, empty when it may."""
        for quote in plan.quotes:
            for step in quote.steps:
                protocol = quote.opportunity.position.protocol
                found = self.refusal(protocol, step.terms.collateral, step.terms.debt)
                if found:
                    return found
        return ""


def find_tokens(
    names: Iterable[str], tokens: Mapping[Address, Token], where: str
) -> frozenset[Address]:
    """Return the tokens that addresses or symbols name; raise `ConfigError` for an unknown one."""
    return frozenset(_find(name, tokens, where) for name in names)


def _find(name: str, tokens: Mapping[Address, Token], where: str) -> Address:
    if name.startswith("0x"):
        found = [address for address in tokens if to_hex(address) == name.lower()]
    else:
        found = [address for address, token in tokens.items() if token.symbol == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{where}: several tokens are called {name}", "write the address")
    known = sorted({token.symbol for token in tokens.values()})
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    raise ConfigError(f"{where}: no market here has a token {name}", hint)


def _within(value: object, allowed: frozenset[Address] | frozenset[str] | None) -> bool:
    return allowed is None or value in allowed
