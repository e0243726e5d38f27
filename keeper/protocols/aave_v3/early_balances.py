"""How events of aTokens and debt tokens change balances up to v3.4, where mints round half up.

ScaledBalanceTokenBase tells what a holder has gained since the last event with every amount, and
scales the amount alone: `value − balanceIncrease` of a Mint is what was minted, and a burn smaller
than the gain is told as a Mint of less than the gain.
"""

from collections.abc import Callable

from keeper.chain.words import LAST_ADDRESS, uint
from keeper.errors import InvariantError
from keeper.protocols.aave_v3.balances import WORD, Change, Rule, Step, supply_transfer
from keeper.protocols.aave_v3.early import scaled_half_up
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.words import malformed
from keeper.types import Log, Undo
from keeper.units import Address

Held = Callable[[Address, Reserve], int]
Store = Callable[[Address, Reserve, int], Undo]


def _rule(holder_at: int, sign: int, *, owes: bool) -> Rule:
    """Return what takes a Mint or a Burn whose holder is the topic at a position."""

    def rule(ledger: Ledger, reserve: Reserve) -> Change:
        held: Held = ledger.owed if owes else ledger.supplied
        store: Store = ledger.set_borrowed if owes else ledger.set_supplied

        def change(log: Log) -> Step | None:
            topics, data = log.topics, log.data
            if len(topics) != 3 or len(data) != 96 or topics[holder_at] > LAST_ADDRESS:
                raise malformed(log)
            holder = Address(topics[holder_at][12:])
            words = int.from_bytes(data)
            index = words & WORD
            amount = sign * (words >> 512) - (words >> 256 & WORD)
            moved = scaled_half_up(abs(amount), index)
            if not moved:
                return None
            after = held(holder, reserve) + (moved if amount > 0 else -moved)
            if after < 0:
                raise InvariantError(
                    ledger.market,
                    f"token 0x{log.address.hex()} in block {log.block_number}: more of"
                    f" 0x{holder.hex()} is burned than there is",
                )
            return (store(holder, reserve, after),)

        return change

    return rule


def supply_transfer_of_amount(ledger: Ledger, reserve: Reserve) -> Change:
    """Return what takes a transfer told in the underlying, as the first aTokens tell it.

    AToken._transfer of v3.0.0 moves `amount.rayDiv(index)` and emits amount and index.
    """
    moved = supply_transfer(ledger, reserve)

    def transfer(log: Log) -> Step | None:
        if len(log.data) != 64:
            raise malformed(log)
        amount, index = uint(log.data), uint(log.data, 1)
        scaled = scaled_half_up(amount, index).to_bytes(32)
        return moved(log._replace(data=scaled + log.data[32:]))

    return transfer


supply_mint = _rule(2, 1, owes=False)
supply_burn = _rule(1, -1, owes=False)
debt_mint = _rule(2, 1, owes=True)
debt_burn = _rule(1, -1, owes=True)
