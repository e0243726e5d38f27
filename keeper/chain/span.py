"""How many blocks of logs a provider gives at once, learnt from what it takes and refuses."""

_FORGET_AFTER = 128
_CLOSE_ENOUGH = 16


class Span:
    """The most blocks to ask for; many requests may be in flight over one span.

    Providers word their limits in too many ways to list, so the figure is found by trying: doubled
    until something is refused, then narrowed down from both sides. A refusal is believed until
    enough full ranges went well: the limit may count logs, and those are not spread evenly.
    """

    def __init__(self, blocks: int = 2_000, most: int = 100_000) -> None:
        self.blocks = blocks
        self._most = most
        self._refused = most + 1
        self._taken = 0
        self._accepted = 0

    def refuse(self, size: int, part: int = 2) -> None:
        """Learn that a range was too long; one asked before the last cut teaches nothing more."""
        if size > self.blocks:
            return
        if self._taken >= size:
            self._taken = 0
        self._refused = size
        self.blocks = max(self._taken, size // part, 1)
        self._accepted = 0

    def accept(self, size: int) -> None:
        """Learn that a range was given; only a full one says that more may fit."""
        if size < self.blocks:
            return
        self._taken = size
        self._accepted += 1
        if self._accepted % _FORGET_AFTER == 0:
            self._refused = min(self._refused * 2, self._most + 1)
        wider = min(self.blocks * 2, self._most)
        if self._refused <= self._most:
            wider = min(wider, (self.blocks + self._refused) // 2)
        if wider - self.blocks > self.blocks // _CLOSE_ENOUGH:
            self.blocks = wider
