"""The nonces of one wallet: which are free, and in what order they are used."""

from collections.abc import Iterable


class NonceLine:
    """Hand out the lowest nonce nobody holds, so that a nonce given back never leaves a gap.

    `confirmed` is the chain's count of mined transactions; below it every nonce is used.
    """

    def __init__(self) -> None:
        self._confirmed = 0
        self._held: set[int] = set()
        self._foreign: set[int] = set()

    @property
    def confirmed(self) -> int:
        """Return the count of mined transactions last heard."""
        return self._confirmed

    @property
    def foreign(self) -> frozenset[int]:
        """Return the nonces held by transactions in the node's pool that are not ours."""
        return frozenset(self._foreign)

    @property
    def is_barred(self) -> bool:
        """Whether what is mined next is not ours."""
        return self._confirmed in self._foreign

    @property
    def free(self) -> int:
        """Return the lowest nonce nobody holds."""
        nonce = self._confirmed
        while nonce in self._held or nonce in self._foreign:
            nonce += 1
        return nonce

    @property
    def has_gap(self) -> bool:
        """Whether what holds a nonce waits for one before it that nobody holds."""
        return self.free < max(self._held, default=0)

    def take(self) -> int:
        """Hold and return the lowest free nonce."""
        nonce = self.free
        self._held.add(nonce)
        return nonce

    def give_back(self, nonce: int) -> None:
        """Free a nonce whose transaction will not be mined; the next one taken fills it."""
        self._held.discard(nonce)

    def synchronise(self, confirmed: int, pending: int, ours: Iterable[int]) -> None:
        """Start over from the chain: mined count, count with the pool's, and what we have in flight.

        What the pool holds beyond the mined and is not ours belongs to someone else with this key.
        A node that lags never takes the mined count back below what was seen.
        """
        self._confirmed = max(self._confirmed, confirmed)
        self._held = {nonce for nonce in ours if nonce >= self._confirmed}
        self._foreign = set(range(self._confirmed, pending)) - self._held

    def rewind(self, confirmed: int) -> None:
        """Go back to a lower count: a reorg undid what was mined, and its nonces are free again."""
        self._confirmed = min(self._confirmed, confirmed)

    def reopen(self, nonce: int) -> None:
        """Hold a nonce again whose mined transaction a reorg undid."""
        self.rewind(nonce)
        self._held.add(nonce)

    def confirm(self, confirmed: int) -> None:
        """Take a newer count of mined transactions."""
        self._confirmed = max(self._confirmed, confirmed)
        self._held = {nonce for nonce in self._held if nonce >= self._confirmed}
        self._foreign = {nonce for nonce in self._foreign if nonce >= self._confirmed}
