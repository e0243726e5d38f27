"""What a recorder tells of a block that stops a part."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keeper.app.recording import Recorded, Recorder
from keeper.book.faults import Fault, FaultKind
from keeper.errors import TransientError
from keeper.tape.records import Record, Taken
from keeper.types import Head, Log, Watch
from keeper.units import Address, Hash
from tests.plans import address, make_head

HEAD = make_head(7)
RECEIPT = {
    "to": "0x" + address("other").hex(),
    "transactionIndex": "0x1",
    "gasUsed": "0x5",
    "effectiveGasPrice": "0x9",
}


class Market:
    """Tells of one liquidation in each log, unless its state is broken."""

    def __init__(self, broken: bool) -> None:
        self.broken = broken

    def liquidation(self, log: Log) -> tuple[Address, Address, Address, int, int, Address]:
        if self.broken:
            raise KeyError(log.address)
        who, debt, collateral = (address(each) for each in ("who", "debt", "collateral"))
        return who, debt, collateral, 5, 6, address("liquidator")

    def liquidation_logs(self) -> Watch:
        return Watch(frozenset(), frozenset())


def recorder(kept: list[Record], restated: list[str], *, faults: set[str]) -> Recorder:
    """Return a recorder of two markets that stands behind one block with one log, not told yet."""
    made = Recorder.__new__(Recorder)
    shut = {part: Fault(FaultKind.INVARIANT, "sums differ", 7) for part in faults}
    markets = {"sound": Market(broken=False), "broken": Market(broken=True)}

    async def request(method: str, _: list[Any]) -> object:
        assert method == "eth_getTransactionReceipt"
        return RECEIPT

    async def restate(why: str) -> None:
        restated.append(why)

    async def look(head: Head, _: object) -> None:
        raise AssertionError(head)

    log = Log(address("pool"), (Hash(bytes(32)),), b"", 7, HEAD.hash, 0, Hash(b"\x01" * 32))
    facts = {
        "_book": SimpleNamespace(
            parts=SimpleNamespace(faults=shut),
            markets={name: SimpleNamespace(protocol=each) for name, each in markets.items()},
        ),
        "_taped": SimpleNamespace(folded={HEAD.hash: (HEAD, [log])}),
        "_connection": SimpleNamespace(rpc=SimpleNamespace(request=request)),
        "_add": kept.append,
        "_restate": restate,
        "_look": look,
        "_assembler": SimpleNamespace(head=HEAD),
        "_path": Path(),
        "recorded": Recorded(),
    }
    for name, fact in facts.items():
        setattr(made, name, fact)
    return made


async def test_who_was_liquidated_in_the_block_that_stops_a_part_is_told() -> None:
    kept: list[Record] = []
    restated: list[str] = []
    made = recorder(kept, restated, faults={"market/broken"})
    await made._finish()
    (taken,) = kept
    assert isinstance(taken, Taken)
    ((market, gas),) = ((each.market, each.gas_used) for each in taken.liquidations)
    assert (market, gas) == ("sound", 5)
    assert made.recorded.liquidations == 1
    assert restated == ["market/broken: sums differ"]
    await made._finish()
    assert len(kept) == 1, "once"


async def test_a_market_that_goes_on_has_to_tell() -> None:
    made = recorder([], [], faults={"venue/broken"})
    with pytest.raises(KeyError):
        await made._finish()


async def test_a_receipt_that_is_missing_restates_nothing() -> None:
    kept: list[Record] = []
    restated: list[str] = []
    made = recorder(kept, restated, faults={"market/broken"})

    async def away(*_: object) -> None:
        raise TransientError("away")

    made._connection.rpc.request = away  # type: ignore[method-assign,assignment]
    with pytest.raises(TransientError):
        await made._finish()
    assert (kept, restated) == ([], [])
