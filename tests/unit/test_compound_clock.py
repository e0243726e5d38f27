"""By what a market counts interest: its chain's blocks, or seconds, and never anything else."""

import pytest

from keeper.chain.words import selector, word
from keeper.errors import ConfigError, IncompleteError
from keeper.protocols.compound_v2.clock import counts_seconds
from keeper.protocols.compound_v2.events import ACCRUE
from keeper.types import Call, CallResult, Head, Log, Watch
from keeper.units import WAD, Address, Hash, Wei

ONE, TWO = (Address(bytes([n]) * 20) for n in (1, 2))
HEAD = Head(280_000_000, Hash(b"\7" * 32), Hash(b"\6" * 32), 1_700_000_000, Wei(0), 0, 0)
NUMBER, SECOND = "accrualBlockNumber()", "accrualBlockTimestamp()"


class Telling:
    """Answers what each cToken says of its last interest, and has logs in the blocks it names."""

    def __init__(self, *ctokens: tuple[str, int], index: int = WAD + 1, logged: int = 0) -> None:
        self._told = {
            (address, selector(name)): moment
            for address, (name, moment) in zip((ONE, TWO), ctokens, strict=False)
        }
        self._index = index
        self._logged = logged

    async def multicall(self, calls: list[Call], _block: Hash) -> list[CallResult]:
        return [self._answer(call) for call in calls]

    def _answer(self, call: Call) -> CallResult:
        if call.data == selector("borrowIndex()"):
            return CallResult(True, word(self._index))
        moment = self._told.get((call.target, call.data))
        return CallResult(moment is not None, b"" if moment is None else word(moment))

    async def logs(self, watch: Watch, first: int, last: int) -> list[Log]:
        if not first <= self._logged <= last:
            return []
        (address,) = watch.addresses
        return [Log(address, (ACCRUE,), b"", self._logged, HEAD.hash, 0)]


async def asked(telling: Telling, *ctokens: Address) -> bool:
    return await counts_seconds(telling, ctokens, HEAD, "0xC0")  # type: ignore[arg-type]


async def test_blocks_are_the_chains_own() -> None:
    block = HEAD.number - 5
    assert not await asked(Telling((NUMBER, block), logged=block), ONE)
    assert not await asked(Telling((NUMBER, 3), (NUMBER, block), logged=3), ONE, TWO)


async def test_an_index_that_lags_is_waited_for_and_not_refused() -> None:
    fresh = HEAD.number - 1
    with pytest.raises(IncompleteError, match="no log yet"):
        await asked(Telling((NUMBER, fresh)), ONE)
    older = HEAD.number - 200
    assert not await asked(Telling((NUMBER, older), (NUMBER, fresh), logged=older), ONE, TWO)


async def test_seconds_are_told_by_name() -> None:
    assert await asked(Telling((SECOND, HEAD.timestamp)), ONE)


async def test_where_no_interest_was_added_yet_nothing_can_be_wrong() -> None:
    assert not await asked(Telling((NUMBER, 21_000_000), index=WAD), ONE)


@pytest.mark.parametrize(
    ("telling", "told"),
    [
        (Telling((NUMBER, 21_000_000), logged=HEAD.number - 5), "another chain's blocks"),
        (Telling((NUMBER, HEAD.number + 1), logged=HEAD.number + 1), "another chain's blocks"),
        (Telling((SECOND, HEAD.timestamp + 1)), "seconds to come"),
        (Telling((NUMBER, 1), (SECOND, 1)), "some cTokens by blocks and of others by seconds"),
        (Telling((NUMBER, 1)), "neither a block nor a second"),
    ],
)
async def test_what_is_counted_otherwise_is_refused_in_one_line(
    telling: Telling, told: str
) -> None:
    ctokens = (ONE,) if len(telling._told) == 1 and "neither" not in told else (ONE, TWO)
    with pytest.raises(ConfigError, match=told) as raised:
        await asked(telling, *ctokens)
    assert "\n" not in str(raised.value)
