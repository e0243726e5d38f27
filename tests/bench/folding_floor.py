"""The least that folding costs in Python: what no order of doing it can leave out."""

import time
from binascii import unhexlify
from collections.abc import Sequence

from keeper.chain import jsonrpc
from keeper.chain.words import topic
from keeper.protocols.aave_v3.accounts import EMPTY, STRIDE
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.units import RAY, to_hex

MINT = to_hex(topic("Mint(address,address,uint256,uint256,uint256)"))
BURN = to_hex(topic("Burn(address,address,uint256,uint256,uint256)"))
WORD = 2**256 - 1

Rule = tuple[int, int, int]
"""A token's number, the topic that names the holder, and the sign of the change."""


class Floor:
    """Reads the JSON, and of each mint and burn the holder, the amounts and the balance they leave.

    The arithmetic, the packed records and what takes a change back are the ledger's own. Left out
    is all that makes it safe to rely on: no log is an object of its own, no shape, order, total or
    address is checked, nothing can be refused, and whatever is no mint or burn is put aside unread.
    """

    def __init__(self, ledger: Ledger) -> None:
        accounts = ledger.accounts
        self._records: dict[bytes, bytes] = {holder: accounts.get(holder) for holder in accounts}
        self._rules: dict[tuple[str, str], Rule] = {}
        for tokens, owes in ((ledger.by_supply_token, 0), (ledger.by_debt_token, 1)):
            for token, reserve in tokens.items():
                number = reserve.id << 1 | owes
                self._rules[to_hex(token), MINT] = number, 2, 1
                self._rules[to_hex(token), BURN] = number, 1, -1

    def seconds(self, answers: Sequence[bytes]) -> float:
        """Return the seconds it takes for a log."""
        rule_of, integer, count = self._rules.get, int.from_bytes, 0
        records, kept = self._records.copy(), []
        started = time.perf_counter()
        for answer in answers:
            undo: list[tuple[bytes, bytes]] = []
            rates: dict[str, str] = {}
            entries = jsonrpc.decode(answer, is_logs=True)["result"]
            count += len(entries)
            for entry in entries:
                topics = entry.topics
                rule = rule_of((entry.address, topics[0]))
                if rule is None:
                    rates[topics[1]] = entry.data
                    continue
                number, named, sign = rule
                holder = unhexlify(topics[named][26:])
                words = integer(unhexlify(entry.data[2:]))
                record = records.get(holder, EMPTY)
                at = record[::STRIDE].find(number, 1) * STRIDE
                held = integer(record[at + 1 : at + STRIDE]) if at > 0 else 0
                index = words & WORD
                balance = held * index // RAY + sign * (words >> 512) - (words >> 256 & WORD)
                scaled, _ = divmod(balance * RAY, index)
                if at > 0 and scaled > 0:
                    amount = scaled.to_bytes(16)
                    records[holder] = record[: at + 1] + amount + record[at + STRIDE :]
                undo.append((holder, record))
            kept.append((undo, rates))
        return (time.perf_counter() - started) / count
