"""From the bytes of `eth_getLogs` answers to the applied book, next to web3's `process_log`."""

import random
import time
from collections.abc import Sequence
from statistics import median

import orjson
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from web3 import Web3
from web3.datastructures import AttributeDict

from keeper.app.collection import Collection
from keeper.book.parts import Parts
from keeper.chain import jsonrpc, raw_logs
from keeper.chain.entries import GET_LOGS
from keeper.chain.words import topic
from keeper.protocols.aave_v3 import AaveV3, v36
from keeper.types import Head, Log
from keeper.units import Address, Hash, Wei
from tests.bench import million
from tests.bench.folding_floor import Floor

HOLDERS = 100_000
BLOCKS = 100
LOGS = 200
ROUNDS = 7
SAMPLE = 400
TURNS = 1_000_000
UINTS = "uint256"
EVENTS = {
    "Mint": (("caller", "onBehalfOf"), ("value", "balanceIncrease", "index")),
    "Burn": (("from", "target"), ("value", "balanceIncrease", "index")),
    "BalanceTransfer": (("from", "to"), ("value", "index")),
    "ReserveDataUpdated": (
        ("reserve",),
        ("liquidityRate", "stableRate", "variableRate", "liquidityIndex", "borrowIndex"),
    ),
    "ReserveUsedAsCollateralEnabled": (("reserve", "user"), ()),
    "ReserveUsedAsCollateralDisabled": (("reserve", "user"), ()),
}
MIX = {
    "rates": 38,
    "supply": 20,
    "withdraw": 13,
    "transfer": 6,
    "borrow": 11,
    "repay": 9,
    "flag": 3,
}
"""Shares of a block's logs: every action also reports its reserve's new rates."""

Words = tuple[str, list[bytes], list[int]]


class Chain:
    """Makes blocks whose logs fit a market, by folding each log into a copy of it."""

    def __init__(self, market: AaveV3, seed: int) -> None:
        self._market = market
        self._ledger = market._ledger
        self._draw = random.Random(seed)
        self._holders = sorted(self._ledger.accounts)
        self._kinds, self._weights = list(MIX), list(MIX.values())

    def block(self, head: Head, count: int) -> list[dict[str, object]]:
        """Return one block's logs as a node has them."""
        entries = []
        for index in range(count):
            contract, (name, indexed, data) = self._log(head)
            topics = [topic(_signature(name)), *(word.rjust(32, b"\0") for word in indexed)]
            raw = b"".join(value.to_bytes(32) for value in data)
            made = Log(contract, tuple(topics), raw, head.number, head.hash, index)
            self._market.fold(made.at(head.timestamp))
            entries.append(
                {
                    "address": "0x" + contract.hex(),
                    "topics": ["0x" + each.hex() for each in topics],
                    "data": "0x" + raw.hex(),
                    "blockNumber": hex(head.number),
                    "blockHash": "0x" + head.hash.hex(),
                    "blockTimestamp": hex(head.timestamp),
                    "transactionHash": "0x" + (b"\5" + (index // 4).to_bytes(31)).hex(),
                    "transactionIndex": hex(index // 4),
                    "logIndex": hex(index),
                    "removed": False,
                }
            )
        return entries

    def _log(self, head: Head) -> tuple[Address, Words]:
        draw, ledger = self._draw, self._ledger
        (kind,) = draw.choices(self._kinds, self._weights)
        user = draw.choice(self._holders)
        account = ledger.account(user)
        if kind == "rates":
            reserve = draw.choice(list(ledger.reserves.values()))
            supply = reserve.supply_index_at(head.timestamp)
            debt = reserve.borrow_index_at(head.timestamp)
            rates = [reserve.liquidity_rate, 0, reserve.borrow_rate, supply, debt]
            return million.POOL, ("ReserveDataUpdated", [reserve.asset], rates)
        owes = kind in {"borrow", "repay"}
        held = account.borrowed if owes else account.supplied
        number = draw.choice(sorted(held) or [0])
        reserve, scaled = ledger.reserves[number], held.get(number, 0)
        if kind == "flag":
            on = account.flags >> number & 1
            name = "ReserveUsedAsCollateral" + ("Disabled" if on else "Enabled")
            return million.POOL, (name, [reserve.asset, user], [])
        if kind == "transfer":
            other, share = draw.choice(self._holders), scaled // draw.randint(2, 9)
            index = reserve.liquidity_index
            return reserve.supply_token, ("BalanceTransfer", [user, other], [share, index])
        is_more = kind in {"supply", "borrow"}
        index = reserve.borrow_index if owes else reserve.liquidity_index
        balance = v36.debt_balance_up if owes else v36.supply_balance_down
        part = scaled // draw.randint(2, 9) + 1000
        after = scaled + part if is_more else max(scaled - part, 0)
        # A balance that grew by interest since its last change reports that too.
        increase = part // 100
        change = balance(after, index) - balance(scaled, index) + increase
        name = "Mint" if change >= 0 else "Burn"
        token = reserve.debt_token if owes else reserve.supply_token
        return token, (name, [user, user], [abs(change), increase, index])


def _signature(name: str) -> str:
    indexed, data = EVENTS[name]
    return f"{name}({','.join(['address'] * len(indexed) + [UINTS] * len(data))})"


def _abi(name: str) -> dict[str, object]:
    indexed, data = EVENTS[name]
    inputs = [{"indexed": True, "name": each, "type": "address"} for each in indexed]
    inputs += [{"indexed": False, "name": each, "type": UINTS} for each in data]
    return {"anonymous": False, "inputs": inputs, "name": name, "type": "event"}


def _heads() -> list[Head]:
    hashes = [Hash(bytes([7]) + number.to_bytes(31)) for number in range(BLOCKS + 1)]
    return [
        Head(number, hashes[number], hashes[number - 1], million.NOW + 12 * number, Wei(0), 0, 1)
        for number in range(BLOCKS + 1)
    ]


def figures() -> dict[str, float]:
    """Return logs folded a second, and how many times as long `process_log` takes alone.

    With them where the microseconds of a log go, what the least of it takes here (`Floor`), and
    what this machine takes for one turn of an empty loop, by which figures of two machines can be
    compared. All of it runs under the garbage collection the keeper runs under.
    """
    with Collection(lambda _: None) as collection:
        return _figures(collection)


def _figures(collection: Collection) -> dict[str, float]:
    heads = _heads()
    chain = Chain(million.market(HOLDERS), seed=7)
    blocks = [chain.block(head, LOGS) for head in heads[1:]]
    answers = [orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": entries}) for entries in blocks]
    process_log = ProcessLog([entry for block in blocks for entry in block])
    market = million.market(HOLDERS)
    parts = Parts("bench", {"market/million": market}, {"million": market}, _refuse)
    parts.stand_at(heads[0])
    floor = Floor(market._ledger)
    collection.settle()
    folds: list[list[float]] = []
    peers, turns, floors = [], [], []
    for _ in range(ROUNDS):
        folds.append(_fold(parts, heads[1:], answers))
        if market._ledger != chain._ledger:
            raise AssertionError("the folded ledger is not the one the logs were made with")
        for _ in answers:
            parts.undo()
        # In turns, so that what else the machine does slows both.
        peers.append(process_log.seconds())
        turns.append(_turn())
        floors.append(floor.seconds(answers))
    whole, decode, read, apply = (median(column) for column in zip(*folds, strict=True))
    return {
        "fold_logs_per_second": 1 / whole,
        "fold_vs_process_log": median(
            peer / fold[0] for peer, fold in zip(peers, folds, strict=True)
        ),
        "fold_us": whole * 1e6,
        "fold_us_json": decode * 1e6,
        "fold_us_parse": read * 1e6,
        "fold_us_apply": apply * 1e6,
        "fold_us_floor": median(floors) * 1e6,
        "fold_vs_floor": median(fold[0] / least for fold, least in zip(folds, floors, strict=True)),
        "process_log_us": median(peers) * 1e6,
        "empty_loop_ns": median(turns) * 1e9,
    }


def _fold(parts: Parts, heads: Sequence[Head], answers: Sequence[bytes]) -> list[float]:
    """Fold every answer; return the seconds a log: all, JSON, nouns, book."""
    clock = time.perf_counter
    decode = read = apply = 0.0
    started = clock()
    for head, answer in zip(heads, answers, strict=True):
        begun = clock()
        entries = jsonrpc.result(GET_LOGS, jsonrpc.decode(answer, is_logs=True))
        decoded = clock()
        logs = raw_logs.of_block(entries, head.timestamp)
        del entries  # the listener does not hold them either
        known = clock()
        parts.fold(head, logs)
        del logs
        applied = clock()
        decode += decoded - begun
        read += known - decoded
        apply += applied - known
    whole = clock() - started
    return [seconds / (BLOCKS * LOGS) for seconds in (whole, decode, read, apply)]


def _turn() -> float:
    """Return the seconds one turn of an empty loop takes."""
    started = time.perf_counter()
    for _ in range(TURNS):
        pass
    return (time.perf_counter() - started) / TURNS


class ProcessLog:
    """web3's `process_log`, for a sample of logs as web3 itself hands them out."""

    def __init__(self, entries: list[dict[str, object]]) -> None:
        events = Web3().eth.contract(abi=[_abi(name) for name in EVENTS]).events
        by_topic = {topic(_signature(name)): events[name]() for name in EVENTS}
        sample = entries[:: len(entries) // SAMPLE]
        self._logs = [(by_topic[_kind(entry)], _formatted(entry)) for entry in sample]

    def seconds(self) -> float:
        """Return the seconds it takes for a log."""
        started = time.perf_counter()
        for event, log in self._logs:
            event.process_log(log)
        return (time.perf_counter() - started) / len(self._logs)


def _kind(entry: dict[str, object]) -> bytes:
    topics = entry["topics"]
    return bytes.fromhex(topics[0][2:]) if isinstance(topics, list) else b""


def _formatted(entry: dict[str, object]) -> AttributeDict[str, object]:
    numbers = {"blockNumber", "logIndex", "transactionIndex", "blockTimestamp"}
    blobs = {"data", "blockHash", "transactionHash"}
    made: dict[str, object] = {}
    for key, value in entry.items():
        if key in numbers:
            made[key] = int(str(value), 16)
        elif key in blobs:
            made[key] = HexBytes(str(value))
        elif key == "topics":
            made[key] = [HexBytes(each) for each in value]  # type: ignore[attr-defined]
        else:
            made[key] = to_checksum_address(str(value)) if key == "address" else value
    return AttributeDict(made)


def _refuse(part: str, fault: object) -> None:
    raise AssertionError(f"{part}: {fault}")


if __name__ == "__main__":
    for name, value in figures().items():
        print(f"{name:<34} {value:12,.1f}")
