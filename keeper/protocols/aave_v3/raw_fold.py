"""One block's plain logs folded in one go, wholly or not at all."""

from collections.abc import Mapping, Sequence
from functools import partial

from keeper.chain import parse
from keeper.chain.entries import Entry
from keeper.protocols.aave_v3 import events, raw
from keeper.protocols.aave_v3.accounts import has_debt
from keeper.protocols.aave_v3.balances import Step, take_back
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.rates import store
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.types import Undo
from keeper.units import Address, to_hex

Totals = Sequence[tuple[Reserve, int, int]]


class RawFold:
    """The short way for the reserves that `ledger` lists when it is made.

    `changes` has all that is done about any log, by contract and first topic. A log that none of
    it is about is only proven to be one.
    """

    def __init__(self, ledger: Ledger, pool: Address, changes: events.Changes) -> None:
        self._ledger = ledger
        self._changes = changes
        self._kept: list[bytes] = []
        self._told: dict[Address, bytes] = {}
        self._rules = _rules(ledger, pool, self._kept, self._told)

    def fold(self, entries: Sequence[Entry], timestamp: int, undos: list[Undo]) -> bool:
        """Apply a block's logs and append what takes them back; False when nothing was changed.

        Then one of them is not plain, or not right.
        """
        ledger, kept, told = self._ledger, self._kept, self._told
        totals = [(each, each.scaled_supply, each.scaled_debt) for each in ledger.reserves.values()]
        borrowers = ledger.borrowers
        try:
            self._apply(entries)
        except Exception:  # noqa: BLE001 - the long way says what it is
            _put_back(ledger, [], kept, totals, borrowers)
            return False
        else:
            reserves = ledger.by_asset
            steps = [store(reserves[asset], data, timestamp) for asset, data in told.items()]
            if steps or kept:
                undos.append(partial(_put_back, ledger, steps, kept.copy(), totals, borrowers))
            return True
        finally:
            kept.clear()
            told.clear()

    def _apply(self, entries: Sequence[Entry]) -> None:
        rules, strange = self._rules, []
        for entry in entries:
            topics = entry.topics
            try:
                change = rules[entry.address][topics[0]]
            except LookupError:
                strange.append(entry)
                continue
            change(topics, entry.data)
        for log in parse.logs(strange):
            if log.topics and log.topics[0] in self._changes.get(log.address, ()):
                raise raw.UnusualError


def _rules(
    ledger: Ledger, pool: Address, kept: list[bytes], told: dict[Address, bytes]
) -> Mapping[str, Mapping[str, raw.Change]]:
    mint, burn, move = map(to_hex, (events.SUPPLY_MINT, events.SUPPLY_BURN, events.SUPPLY_TRANSFER))
    found: dict[str, dict[str, raw.Change]] = {
        to_hex(pool): {
            to_hex(events.COLLATERAL_ON): raw.flag_rule(ledger, kept, used=True),
            to_hex(events.COLLATERAL_OFF): raw.flag_rule(ledger, kept, used=False),
            to_hex(events.RATES): raw.rates_rule(ledger, told),
        }
    }
    for reserve in ledger.reserves.values():
        owed, held = to_hex(reserve.debt_token), to_hex(reserve.supply_token)
        found[owed] = {
            mint: raw.balance_rule(ledger, reserve, kept, 2, owed=True),
            burn: raw.balance_rule(ledger, reserve, kept, 1, owed=True),
        }
        found[held] = {
            mint: raw.balance_rule(ledger, reserve, kept, 2, owed=False),
            burn: raw.balance_rule(ledger, reserve, kept, 1, owed=False),
        }
        if not reserve.tells_amounts:
            found[held][move] = raw.transfer_rule(ledger, reserve, kept)
    return found


def _put_back(
    ledger: Ledger, steps: Sequence[Step], kept: Sequence[bytes], totals: Totals, borrowers: int
) -> None:
    """Take a block back: the records, the last one first, then all that is counted of them."""
    take_back(steps)
    get, put, touched = ledger.accounts.get, ledger.accounts.put, ledger.touched
    for at in range(len(kept) - 2, -1, -2):
        holder, record = Address(kept[at]), kept[at + 1]
        if has_debt(record) or has_debt(get(holder)):
            touched.add(holder)
        put(holder, record)
    for reserve, supply, debt in totals:
        reserve.scaled_supply, reserve.scaled_debt = supply, debt
    ledger.borrowers = borrowers
