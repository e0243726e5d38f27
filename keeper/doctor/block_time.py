"""Check of the seconds between two blocks, from which age, interest and deadlines are counted."""

from dataclasses import dataclass

from keeper.chain.reader import ChainReader
from keeper.config import default_block_time
from keeper.doctor.check import Finding, State
from keeper.errors import KeeperError
from keeper.ports import Rpc
from keeper.types import Head

BLOCKS = 100
"""Over so many blocks a chain is measured: missed slots weigh little, and no node has to look far."""

SLOWEST = 60
"""Seconds; a chain whose blocks take longer is a local one."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How many seconds the last `BLOCKS` blocks took."""

    seconds: int

    @property
    def rounded(self) -> int:
        """Return the nearest whole seconds of a block, one at least, as `block_time` has them."""
        return max((self.seconds + BLOCKS // 2) // BLOCKS, 1)

    def is_far_from(self, block_time: int) -> bool:
        """Whether it is more than half off; a chain faster than one a second is taken for that."""
        return 2 * abs(max(self.seconds, BLOCKS) - BLOCKS * block_time) > BLOCKS * block_time

    @property
    def is_stepped(self) -> bool:
        """Whether no chain is so slow, or runs backwards: its clock is set by hand."""
        return not 0 < self.seconds <= SLOWEST * BLOCKS

    def __str__(self) -> str:
        return f"{self.seconds / BLOCKS:.2f} s"


async def measure_pace(reader: ChainReader, head: Head) -> Pace | None:
    """Return how long the last blocks took, None on a chain that has too few."""
    if head.number < BLOCKS:
        return None
    return Pace(head.timestamp - (await reader.head(head.number - BLOCKS)).timestamp)


async def likely_block_time(rpc: Rpc, chain_id: int, head: Head) -> int:
    """Return what the last blocks say, else what is known of the chain; no error."""
    try:
        pace = await measure_pace(ChainReader(rpc), head)
    except KeeperError:
        pace = None
    known = default_block_time(chain_id)
    return known if pace is None or pace.is_stepped else pace.rounded


async def check_block_time(reader: ChainReader, head: Head, block_time: int) -> Finding:
    """Compare what is configured with the last blocks; a warning at most."""
    try:
        pace = await measure_pace(reader, head)
    except KeeperError as error:
        return State.WARN, f"{block_time} s is set; an older header is not answered: {error}", ""
    if pace is None:
        return State.OK, f"{block_time} s is set; too few blocks to measure", ""
    said = f"{block_time} s is set, the last {BLOCKS} blocks took {pace} each"
    if pace.is_far_from(block_time):
        return (
            State.WARN,
            said,
            f"set block_time = {pace.rounded}, unless the chain's clock is stepped",
        )
    return State.OK, said, ""
