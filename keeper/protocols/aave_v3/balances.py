"""How events of aTokens and debt tokens change balances; nearly every log is one of these."""

from collections.abc import Callable

from keeper.errors import InvariantError
from keeper.protocols.aave_v3 import v36
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.words import PADDING, topic_address, uint
from keeper.types import Log, Undo
from keeper.units import Address

Change = Callable[[Ledger, Log], Undo]
WORD = 2**256 - 1
_integer = int.from_bytes


def _supply_change(holder_at: int, sign: int) -> Change:
    """Return what takes a Mint or a Burn of an aToken, whose holder is the topic at a position.

    It sets the scaled balance behind `balance after − balance before = change`.
    ScaledBalanceTokenBase._mintScaled and _burnScaled: the balance before is the one at the
    holder's last index, which is the balance now less `balanceIncrease`.
    """

    def change_supply(ledger: Ledger, log: Log) -> Undo:
        word, words = log.topics[holder_at], _integer(log.data)
        holder = Address(word[12:]) if word.startswith(PADDING) else topic_address(log, holder_at)
        reserve = ledger.by_supply_token[log.address]
        place = ledger.accounts.place(holder, reserve.id << 1)
        change, index = sign * (words >> 512) - (words >> 256 & WORD), words & WORD
        scaled = v36.changed_supply(place[4], index, change)
        if scaled is None:
            balance = v36.supply_balance_down(place[4], index) + change
            raise _impossible(ledger, log, holder, balance)
        return ledger.put_supplied(holder, reserve, place, scaled)

    return change_supply


def _debt_change(holder_at: int, sign: int) -> Change:
    def change_debt(ledger: Ledger, log: Log) -> Undo:
        word, words = log.topics[holder_at], _integer(log.data)
        holder = Address(word[12:]) if word.startswith(PADDING) else topic_address(log, holder_at)
        reserve = ledger.by_debt_token[log.address]
        place = ledger.accounts.place(holder, reserve.id << 1 | 1)
        change, index = sign * (words >> 512) - (words >> 256 & WORD), words & WORD
        scaled = v36.changed_debt(place[4], index, change)
        if scaled is None:
            balance = v36.debt_balance_up(place[4], index) + change
            raise _impossible(ledger, log, holder, balance)
        return ledger.put_borrowed(holder, reserve, place, scaled)

    return change_debt


supply_mint = _supply_change(2, 1)
supply_burn = _supply_change(1, -1)
debt_mint = _debt_change(2, 1)
debt_burn = _debt_change(1, -1)


def supply_transfer(ledger: Ledger, log: Log) -> Undo | None:
    """Move scaled units (AToken._transfer)."""
    reserve = ledger.by_supply_token[log.address]
    sender, recipient, scaled = topic_address(log, 1), topic_address(log, 2), uint(log.data)
    number = reserve.id << 1
    source = ledger.accounts.place(sender, number)
    left = source[4] - scaled
    if left < 0:
        raise _impossible(ledger, log, sender, left)
    if sender == recipient:
        return None
    target = ledger.accounts.place(recipient, number)
    # The recipient first: it alone can be refused, and a refusal has to leave everything as it was.
    second = ledger.put_supplied(recipient, reserve, target, target[4] + scaled)
    first = ledger.put_supplied(sender, reserve, source, left)

    def undo() -> None:
        first()
        second()

    return undo


def _impossible(ledger: Ledger, log: Log, holder: Address, balance: int) -> InvariantError:
    return InvariantError(
        ledger.market,
        f"token 0x{log.address.hex()} in block {log.block_number}: no scaled balance of"
        f" 0x{holder.hex()} gives {balance}",
    )
