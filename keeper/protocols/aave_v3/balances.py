"""How events of aTokens and debt tokens change balances; nearly every log is one of these.

A block's logs are folded between two of a node's answers, so that a change is made in one piece:
a call costs as much as a division here.
"""

from collections.abc import Callable, Sequence

from keeper.chain.words import LAST_ADDRESS
from keeper.errors import InvariantError
from keeper.protocols.aave_v3.accounts import DEBTS, EMPTY, STRIDE
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.words import malformed, topic_address
from keeper.types import Log
from keeper.units import RAY, Address

Step = tuple[Callable[..., object], *tuple[object, ...]]
"""What takes one change back: a function and its arguments, for a third of what a partial costs."""
Change = Callable[[Log], Step | None]
"""Applies a log of one kind from one contract; raises `ValueError` for one that does not decode."""
Rule = Callable[[Ledger, Reserve], Change]
WORD = 2**256 - 1
_LIMIT = 2**128
_integer = int.from_bytes


def _supply_rule(holder_at: int, sign: int) -> Rule:
    """Return what takes a Mint or a Burn of an aToken, whose holder is the topic at a position.

    It sets the scaled balance behind `balance after − balance before = change`.
    ScaledBalanceTokenBase._mintScaled and _burnScaled: the balance before is the one at the
    holder's last index, which is the balance now less `balanceIncrease`.

    TokenMath.getATokenBalance rounds down, so that only the quotient rounded up can have the
    balance after, and has it when rounding added less than a ray.
    """

    def rule(ledger: Ledger, reserve: Reserve) -> Change:
        accounts, number = ledger.accounts, reserve.id << 1
        writable, thaw, unput = accounts.writable, accounts.thaw, ledger.unput_supplied

        def change_supply(log: Log) -> Step:
            topics, data = log.topics, log.data
            if len(topics) != 3 or len(data) != 96 or topics[holder_at] > LAST_ADDRESS:
                raise malformed(log)
            holder: Address = topics[holder_at][12:]  # type: ignore[assignment]  # costs no call
            shard = writable[which := holder[19] | (holder[18] & 3) << 8]
            if shard is None:
                shard = thaw(which)
            record = shard.get(holder, EMPTY)
            tokens = record[::STRIDE]
            at = tokens.find(number, 1) * STRIDE
            held = _integer(record[at + 1 : at + STRIDE]) if at > 0 else 0
            words = _integer(data)
            index = words & WORD
            balance = held * index // RAY + sign * (words >> 512) - (words >> 256 & WORD)
            scaled, over = divmod(balance * RAY, index)
            if over:
                scaled += 1
                over = index - over
            if balance < 0 or over >= RAY:
                raise _impossible(ledger, log, holder, balance)
            if at < 0 or not 0 < scaled < _LIMIT:
                return (ledger.set_supplied(holder, reserve, scaled),)
            shard[holder] = record[: at + 1] + scaled.to_bytes(16) + record[at + STRIDE :]
            before = reserve.scaled_supply
            reserve.scaled_supply = before + scaled - held
            if _integer(tokens, "little") & DEBTS:
                ledger.touched.add(holder)
            return unput, holder, record, reserve, before

        return change_supply

    return rule


def _debt_rule(holder_at: int, sign: int) -> Rule:
    """Return what takes a Mint or a Burn of a debt token, as `_supply_rule` does.

    TokenMath.getVTokenBalance rounds up, hence the quotient down.
    """

    def rule(ledger: Ledger, reserve: Reserve) -> Change:
        accounts, number = ledger.accounts, reserve.id << 1 | 1
        writable, thaw, unput = accounts.writable, accounts.thaw, ledger.unput_borrowed

        def change_debt(log: Log) -> Step:
            topics, data = log.topics, log.data
            if len(topics) != 3 or len(data) != 96 or topics[holder_at] > LAST_ADDRESS:
                raise malformed(log)
            holder: Address = topics[holder_at][12:]  # type: ignore[assignment]  # costs no call
            shard = writable[which := holder[19] | (holder[18] & 3) << 8]
            if shard is None:
                shard = thaw(which)
            record = shard.get(holder, EMPTY)
            at = record[::STRIDE].find(number, 1) * STRIDE
            held = _integer(record[at + 1 : at + STRIDE]) if at > 0 else 0
            words = _integer(data)
            index = words & WORD
            balance = -(-held * index // RAY) + sign * (words >> 512) - (words >> 256 & WORD)
            scaled, over = divmod(balance * RAY, index)
            if balance < 0 or over >= RAY:
                raise _impossible(ledger, log, holder, balance)
            if at < 0 or not 0 < scaled < _LIMIT:
                return (ledger.set_borrowed(holder, reserve, scaled),)
            shard[holder] = record[: at + 1] + scaled.to_bytes(16) + record[at + STRIDE :]
            before = reserve.scaled_debt
            reserve.scaled_debt = before + scaled - held
            ledger.touched.add(holder)
            return unput, holder, record, reserve, before, ledger.borrowers

        return change_debt

    return rule


supply_mint = _supply_rule(2, 1)
supply_burn = _supply_rule(1, -1)
debt_mint = _debt_rule(2, 1)
debt_burn = _debt_rule(1, -1)


def supply_transfer(ledger: Ledger, reserve: Reserve) -> Change:
    """Return what moves scaled units (AToken._transfer)."""
    accounts, number = ledger.accounts, reserve.id << 1
    writable, thaw = accounts.writable, accounts.thaw

    def transfer(log: Log) -> Step | None:
        topics, data = log.topics, log.data
        if len(topics) != 3 or len(data) != 64 or max(topics[1:]) > LAST_ADDRESS:
            raise malformed(log)
        sender: Address = topics[1][12:]  # type: ignore[assignment]  # costs no call
        recipient: Address = topics[2][12:]  # type: ignore[assignment]
        giving = writable[which := sender[19] | (sender[18] & 3) << 8]
        if giving is None:
            giving = thaw(which)
        taking = writable[which := recipient[19] | (recipient[18] & 3) << 8]
        if taking is None:
            taking = thaw(which)
        source, target = giving.get(sender, EMPTY), taking.get(recipient, EMPTY)
        given, taken = source[::STRIDE], target[::STRIDE]
        out, into = given.find(number, 1) * STRIDE, taken.find(number, 1) * STRIDE
        scaled = _integer(data) >> 256
        left = (_integer(source[out + 1 : out + STRIDE]) if out > 0 else 0) - scaled
        if left < 0:
            raise _impossible(ledger, log, sender, left)
        if sender == recipient:
            return None
        more = (_integer(target[into + 1 : into + STRIDE]) if into > 0 else 0) + scaled
        if into < 0 or left == 0 or more >= _LIMIT:
            # The recipient first: it alone can be refused, and a refusal has to leave all as it was.
            ledger.put(recipient, target, ledger.changed(recipient, target, into, number, more))
            ledger.put(sender, source, ledger.changed(sender, source, out, number, left))
            if into < 0:
                ledger.know(target[0], (reserve.id,))
            return ledger.unput_both, recipient, target, sender, source
        taking[recipient] = target[: into + 1] + more.to_bytes(16) + target[into + STRIDE :]
        giving[sender] = source[: out + 1] + left.to_bytes(16) + source[out + STRIDE :]
        if _integer(taken, "little") & DEBTS:
            ledger.touched.add(recipient)
        if _integer(given, "little") & DEBTS:
            ledger.touched.add(sender)
        return ledger.unput_both, recipient, target, sender, source

    return transfer


def _collateral_rule(*, used: bool) -> Callable[[Ledger], Change]:
    """Return what marks a supply as collateral, or no longer as one (ValidationLogic decides)."""

    def rule(ledger: Ledger) -> Change:
        get, put = ledger.accounts.get, ledger.put
        bits = {bytes(12) + asset: 1 << each.id for asset, each in ledger.by_asset.items()}

        def change_flag(log: Log) -> Step:
            topics = log.topics
            if len(topics) != 3 or log.data or topics[2] > LAST_ADDRESS:
                raise malformed(log)
            bit = bits.get(topics[1])
            if bit is None:
                raise ledger.unlisted(topic_address(log, 1))
            holder: Address = topics[2][12:]  # type: ignore[assignment]  # costs no call
            record = get(holder)
            flags = _integer(record[1:STRIDE])
            flags = flags | bit if used else flags & ~bit
            after = record[:1] + flags.to_bytes(16) + record[STRIDE:]
            put(holder, record, after)
            return put, holder, after, record

        return change_flag

    return rule


collateral_on = _collateral_rule(used=True)
collateral_off = _collateral_rule(used=False)


def take_back(steps: Sequence[Step]) -> None:
    """Take changes back, the last one first."""
    for step in reversed(steps):
        step[0](*step[1:])


def _impossible(ledger: Ledger, log: Log, holder: Address, balance: int) -> InvariantError:
    return InvariantError(
        ledger.market,
        f"token 0x{log.address.hex()} in block {log.block_number}: no scaled balance of"
        f" 0x{holder.hex()} gives {balance}",
    )
