"""How events of aTokens and debt tokens change balances; nearly every log is one of these."""

from keeper.errors import InvariantError
from keeper.protocols.aave_v3 import v36
from keeper.protocols.aave_v3.accounts import amount, find
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.words import topic_address, uint
from keeper.types import Log, Undo
from keeper.units import Address


def supply_mint(ledger: Ledger, log: Log) -> Undo:
    """Add to an aToken balance."""
    return _supply_change(ledger, log, topic_address(log, 2), uint(log.data))


def supply_burn(ledger: Ledger, log: Log) -> Undo:
    """Take from an aToken balance."""
    return _supply_change(ledger, log, topic_address(log, 1), -uint(log.data))


def debt_mint(ledger: Ledger, log: Log) -> Undo:
    """Add to a debt."""
    return _debt_change(ledger, log, topic_address(log, 2), uint(log.data))


def debt_burn(ledger: Ledger, log: Log) -> Undo:
    """Take from a debt."""
    return _debt_change(ledger, log, topic_address(log, 1), -uint(log.data))


def supply_transfer(ledger: Ledger, log: Log) -> Undo | None:
    """Move scaled units (AToken._transfer)."""
    reserve = ledger.by_supply_token[log.address]
    sender, recipient, scaled = topic_address(log, 1), topic_address(log, 2), uint(log.data)
    number = reserve.id << 1
    record = ledger.accounts.get(sender)
    at = find(record, number)
    left = amount(record, at) - scaled
    if left < 0:
        raise _impossible(ledger, log, sender, left)
    if sender == recipient:
        return None
    into = ledger.accounts.get(recipient)
    to = find(into, number)
    # The recipient first: it alone can be refused, and a refusal has to leave everything as it was.
    second = ledger.put_supplied(recipient, reserve, into, to, amount(into, to) + scaled)
    first = ledger.put_supplied(sender, reserve, record, at, left)

    def undo() -> None:
        first()
        second()

    return undo


def _supply_change(ledger: Ledger, log: Log, holder: Address, change: int) -> Undo:
    """Set the scaled balance behind `balance after − balance before = change`.

    ScaledBalanceTokenBase._mintScaled and _burnScaled: the balance before is the one at the
    holder's last index, which is the balance now less `balanceIncrease`.
    """
    reserve = ledger.by_supply_token[log.address]
    data = log.data
    increase, index = int.from_bytes(data[32:64]), int.from_bytes(data[64:96])
    record = ledger.accounts.get(holder)
    at = find(record, reserve.id << 1)
    balance = v36.supply_balance_down(amount(record, at), index) - increase + change
    scaled = v36.scaled_supply(balance, index)
    if balance < 0 or v36.supply_balance_down(scaled, index) != balance:
        raise _impossible(ledger, log, holder, balance)
    return ledger.put_supplied(holder, reserve, record, at, scaled)


def _debt_change(ledger: Ledger, log: Log, holder: Address, change: int) -> Undo:
    reserve = ledger.by_debt_token[log.address]
    data = log.data
    increase, index = int.from_bytes(data[32:64]), int.from_bytes(data[64:96])
    record = ledger.accounts.get(holder)
    at = find(record, reserve.id << 1 | 1)
    balance = v36.debt_balance_up(amount(record, at), index) - increase + change
    scaled = v36.scaled_debt(balance, index)
    if balance < 0 or v36.debt_balance_up(scaled, index) != balance:
        raise _impossible(ledger, log, holder, balance)
    return ledger.put_borrowed(holder, reserve, record, at, scaled)


def _impossible(ledger: Ledger, log: Log, holder: Address, balance: int) -> InvariantError:
    return InvariantError(
        ledger.market,
        f"token 0x{log.address.hex()} in block {log.block_number}: no scaled balance of"
        f" 0x{holder.hex()} gives {balance}",
    )
