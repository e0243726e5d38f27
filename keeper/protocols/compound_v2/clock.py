"""By what cTokens count interest: the blocks their chain's logs tell, or seconds.

On some rollups contracts see the block number of the chain below, which no log of theirs carries:
interest counted by it cannot be followed.
"""

from collections.abc import Sequence

from eth_utils.address import to_checksum_address

from keeper.chain.words import answered, read, uint
from keeper.errors import ConfigError, IncompleteError
from keeper.ports import Reader
from keeper.protocols.compound_v2.events import ACCRUE, ACCRUE_FIRST
from keeper.types import Head, Watch
from keeper.units import WAD, Address

SETTLED = 64
"""Blocks below the head whose logs every node has."""


async def counts_seconds(
    reader: Reader, ctokens: Sequence[Address], head: Head, shown: str
) -> bool:
    """Tell whether interest is by the second; it is by the block otherwise.

    `shown` names the comptroller. Raise `ConfigError` when it is by neither, or by other blocks than
    those the chain's logs are in.
    """
    names = ("accrualBlockNumber()", "accrualBlockTimestamp()", "borrowIndex()")
    calls = [read(ctoken, name) for ctoken in ctokens for name in names]
    results = await reader.multicall(calls, head.hash)
    moments: dict[bool, list[tuple[int, Address]]] = {False: [], True: []}
    for number, ctoken in enumerate(ctokens):
        block, second, index = results[3 * number : 3 * number + 3]
        if not answered(block) and not answered(second):
            which = to_checksum_address(ctoken)
            raise ConfigError(
                f"cToken {which} tells neither a block nor a second of its interest",
                "its rules are not known to this keeper",
            )
        by_seconds = not answered(block)
        moment = uint(second.data if by_seconds else block.data)
        # Without interest the moment may be that of its deployment, which no log tells.
        has_interest = answered(index) and uint(index.data) > WAD
        moments[by_seconds].append((moment if has_interest else 0, ctoken))
    if moments[True] and moments[False]:
        raise ConfigError(
            f"comptroller {shown} lists interest of some cTokens by blocks and of others by seconds",
            "such a market is not followed",
        )
    by_seconds = bool(moments[True])
    latest = max(moments[by_seconds])[0]
    if by_seconds:
        if latest > head.timestamp:
            raise ConfigError(f"comptroller {shown} counts interest in seconds to come", "")
        return True
    stranger = ConfigError(
        f"comptroller {shown} counts interest by another chain's blocks:"
        f" last in {latest}, of which this chain has no log",
        "such a market is not followed",
    )
    if latest > head.number:
        raise stranger
    # A node's index of logs may lag behind its state for some blocks.
    settled = [each for each in moments[False] if each[0] <= head.number - SETTLED]
    told, ctoken = max(settled) if any(each for each, _ in settled) else max(moments[False])
    if not told:
        return False
    watch = Watch(frozenset({ctoken}), frozenset({ACCRUE, ACCRUE_FIRST}))
    if not await reader.logs(watch, told, told):
        if told > head.number - SETTLED:
            raise IncompleteError(f"interest of block {told} has no log yet")
        raise stranger
    return False
