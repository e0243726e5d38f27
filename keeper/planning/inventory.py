"""What the liquidator contract has of its own to repay with, as each head's reads tell it."""

from collections.abc import Callable, Container, Iterable, Sequence

from keeper.planning.owner_calls import encode_kept
from keeper.planning.treasury import balance_of
from keeper.types import Call, CallResult
from keeper.units import BPS, Address, Bps


class Inventory:
    """The contract's own balances, a `share` of them; never what stands on an operator's account.

    Only what the owner keeps there counts, unless what is `loose` does as well: anybody may sweep that,
    right before a transaction that needs it, and `leaving` names what is on its way to the treasury or
    to be sold. What is followed stays, so that the answers to an earlier list of reads are the first of
    a later one's.
    """

    def __init__(
        self,
        contract: Address,
        share: Bps,
        *,
        loose: bool,
        leaving: Callable[[], Container[Address]] = frozenset,
    ) -> None:
        self._contract = contract
        self._share = share
        self._loose = loose
        self._leaving = leaving
        self._followed: dict[Address, None] = {}

    def follow(self, tokens: Iterable[Address]) -> list[Address]:
        """Read these tokens at every head from the next one on; return those that are new."""
        new = [token for token in tokens if token not in self._followed]
        self._followed.update(dict.fromkeys(new))
        return new

    def calls(self) -> Sequence[Call]:
        """Return the reads of a head: two for each token, in the order they came in."""
        return self.reads(self._followed)

    def usable(self, results: Sequence[CallResult]) -> dict[Address, int]:
        """Return how much of each token there is to use, from the answers to `calls`."""
        held = self.read(list(self._followed), results)
        # what is kept stays through sweeps and sales of profit
        leaving = self._leaving() if self._loose else ()
        return {token: amount for token, amount in held.items() if token not in leaving}

    def known(self, tokens: Iterable[Address], asked: Container[Call]) -> list[Address]:
        """Return those of some tokens whose reads are among what was asked."""
        return [token for token in tokens if all(call in asked for call in self.reads([token]))]

    def reads(self, tokens: Iterable[Address]) -> list[Call]:
        """Return the reads of some tokens: what the contract has, and what its owner keeps of it."""
        contract = self._contract
        return [
            call
            for token in tokens
            for call in (balance_of(token, contract), Call(contract, encode_kept(token)))
        ]

    def read(self, tokens: Sequence[Address], results: Sequence[CallResult]) -> dict[Address, int]:
        """Return how much of each token there is; what was not read, or is nothing, is absent."""
        found = {}
        for token, held, kept in zip(tokens, results[::2], results[1::2], strict=False):
            amounts = [_word(held)] if self._loose else [_word(held), _word(kept)]
            known = [amount for amount in amounts if amount is not None]
            usable = min(known) * self._share // BPS if len(known) == len(amounts) else 0
            if usable:
                found[token] = usable
        return found


def _word(result: CallResult) -> int | None:
    """Return what a contract told, None when it did not."""
    return int.from_bytes(result.data[:32]) if result.ok and len(result.data) >= 32 else None
