"""Which of the liquidations of a batch bring all of it down."""

from collections.abc import Awaitable, Callable, Sequence

from keeper.execution.flight import Key

Holds = Callable[[Sequence[Key]], Awaitable[str | None]]
"""Tries a batch of some: why it fails, empty when it holds, None when it is not worth a transaction."""


class Bisection:
    """Halve a batch that fails until those that make it fail are alone.

    Each half is tried with all that is known to hold; when the first holds, the culprit is in the
    second. One culprit of n takes 2 log2(n) tries at most; what `tries` are not enough for is `left`.
    """

    def __init__(self, holds: Holds, tries: int) -> None:
        self._holds = holds
        self._deferred: list[Sequence[Key]] = []
        self.tries = tries
        self.held: list[Key] = []
        self.culprits: dict[Key, str] = {}
        self.left: list[Key] = []

    async def search(self, suspects: Sequence[Key], why: str) -> None:
        """Sort suspects that fail together, for this reason, into held, culprits and left."""
        await self._split(suspects, why)
        deferred, self._deferred = self._deferred, []
        for group in deferred:
            await self._settle(group)
        for group in self._deferred:
            self.left += group

    async def _settle(self, group: Sequence[Key]) -> bool:
        """Try a group, and split it when it fails; return whether it holds."""
        if not self.tries:
            self.left += group
            return False
        self.tries -= 1
        why = await self._holds([*self.held, *group])
        if why is None:
            # it may be, together with what turns out to hold
            self._deferred.append(group)
        elif why:
            await self._split(group, why)
        else:
            self.held += group
        return why == ""

    async def _split(self, group: Sequence[Key], why: str) -> None:
        """Look into a group that is known to fail."""
        if len(group) == 1:
            self.culprits[group[0]] = why
            return
        middle = len(group) // 2
        if await self._settle(group[:middle]):
            await self._split(group[middle:], why)
        else:
            await self._settle(group[middle:])
