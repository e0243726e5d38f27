"""Indexes and rates of reserves as events tell them: of what is told in a row, the last stands."""

from keeper.errors import InvariantError
from keeper.protocols.aave_v3.balances import WORD, Step
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.words import malformed, topic_address
from keeper.types import Log


class Rates:
    """Takes `ReserveDataUpdated` (ReserveLogic.updateInterestRatesAndVirtualBalance).

    Every action tells its reserve's anew, and balances are computed with the index their own event
    carries. So the last log of each reserve is kept until `write`, which has to come before
    anything but a balance or a flag is changed or read. Knows the reserves listed when it is made.
    """

    __slots__ = ("_ledger", "_reserves", "_told")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._reserves = {bytes(12) + asset: reserve for asset, reserve in ledger.by_asset.items()}
        self._told: dict[bytes, tuple[bytes, int]] = {}

    def take(self, log: Log) -> None:
        """Keep what one log tells; raise as every change does for one that cannot be right."""
        topics = log.topics
        if len(topics) != 2 or len(log.data) != 160:
            raise malformed(log)
        if not log.timestamp:
            why = f"a log of block {log.block_number} has no timestamp"
            raise InvariantError(self._ledger.market, why)
        reserve = topics[1]
        if reserve not in self._reserves:
            raise self._ledger.unlisted(topic_address(log, 1))
        self._told[reserve] = log.data, log.timestamp

    def write(self) -> list[Step]:
        """Replace the indexes and rates that were told; return what takes that back."""
        steps: list[Step] = []
        for asset, (data, timestamp) in self._told.items():
            steps.append(store(self._reserves[asset], data, timestamp))
        self._told.clear()
        return steps


def store(reserve: Reserve, data: bytes, timestamp: int) -> Step:
    """Replace a reserve's indexes and rates by an event's; return what takes that back."""
    words = int.from_bytes(data)
    before = (
        reserve.store,
        reserve.liquidity_index,
        reserve.liquidity_rate,
        reserve.borrow_index,
        reserve.borrow_rate,
        reserve.updated_at,
    )
    # In the event: liquidity rate, stable rate, borrow rate, liquidity index, borrow index.
    reserve.store(words >> 256 & WORD, words >> 1024, words & WORD, words >> 512 & WORD, timestamp)
    return before
