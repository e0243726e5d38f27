"""Balances, flags and rates folded from a node's own words, without a noun for each log.

What `balances` and `rates` do with a `Log`, from the texts it would be made of, for two thirds of
the time. Whatever is unusual is left to them: they know what to do about it, and what to say.
"""

from binascii import unhexlify
from collections.abc import Callable, Sequence

from keeper.protocols.aave_v3.accounts import DEBTS, EMPTY, STRIDE
from keeper.protocols.aave_v3.balances import WORD
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.units import RAY, Address

Topics = Sequence[str]
Change = Callable[[Topics, str], None]
"""Applies topics and data; raises any `ValueError` or `LookupError` where that is not plain."""
FIRST, PAST = "0x" + "0" * 24, "0x" + "0" * 23 + "1"
"""A word from the one to the other begins with the zeros of an address."""
_LIMIT = 2**128
_integer = int.from_bytes


class UnusualError(ValueError):
    """Report a log that is not for the short way."""


def balance_rule(
    ledger: Ledger, reserve: Reserve, kept: list[bytes], holder_at: int, *, owed: bool
) -> Change:
    """Return what takes a Mint or a Burn as `balances.supply_mint`, `debt_mint` and the burns do.

    With r what `held × index` leaves over a ray, an aToken's balance after is (held × index − r) / ray
    plus the change, so that held + ⌈(change × ray − r) / index⌉ has it, of which rounding up is `over`.
    A debt rounds the other way: it is the same of everything negative.
    """
    accounts, number, side = ledger.accounts, reserve.id << 1 | owed, -1 if owed else 1
    writable, thaw, keep = accounts.writable, accounts.thaw, kept.append
    change = ledger.set_borrowed if owed else ledger.set_supplied
    sign, other_at = 1 if holder_at == 2 else -1, 3 - holder_at

    def change_balance(topics: Topics, data: str) -> None:
        named = topics[holder_at]
        if len(topics) != 3 or len(data) != 194 or len(named) != 66 or not FIRST <= named < PAST:
            raise UnusualError
        if named != topics[other_at]:
            prove_word(topics[other_at])
        holder: Address = unhexlify(named[26:])  # type: ignore[assignment]  # costs no call
        words = _integer(unhexlify(data[2:]))
        shard = writable[which := holder[19] | (holder[18] & 3) << 8]
        if shard is None:
            shard = thaw(which)
        record = shard.get(holder, EMPTY)
        tokens = record[::STRIDE]
        at = tokens.find(number, 1) * STRIDE
        held = _integer(record[at + 1 : at + STRIDE]) if at > 0 else 0
        index = words & WORD
        fall = side * ((words >> 256 & WORD) - sign * (words >> 512))
        less, over = divmod(side * held * index % RAY + fall * RAY, index)
        scaled = held - side * less
        if over >= RAY or not 0 <= scaled < _LIMIT:
            raise UnusualError
        keep(holder)
        keep(record)
        if at < 0 or not scaled:
            change(holder, reserve, scaled)
            return
        shard[holder] = record[: at + 1] + scaled.to_bytes(16) + record[at + STRIDE :]
        if owed:
            reserve.scaled_debt += less
        else:
            reserve.scaled_supply -= less
        if owed or _integer(tokens, "little") & DEBTS:
            ledger.touched.add(holder)

    return change_balance


def transfer_rule(ledger: Ledger, reserve: Reserve, kept: list[bytes]) -> Change:
    """Return what moves scaled units, as `balances.supply_transfer` does."""
    accounts, number = ledger.accounts, reserve.id << 1
    writable, thaw, keep = accounts.writable, accounts.thaw, kept.extend

    def transfer(topics: Topics, data: str) -> None:
        _, giver, taker = topics
        if len(data) != 130 or not len(giver) == len(taker) == 66:
            raise UnusualError
        if not FIRST <= giver < PAST or not FIRST <= taker < PAST or giver == taker:
            raise UnusualError
        sender: Address = unhexlify(giver[26:])  # type: ignore[assignment]  # costs no call
        recipient: Address = unhexlify(taker[26:])  # type: ignore[assignment]
        scaled = _integer(unhexlify(data[2:])) >> 256
        giving = writable[which := sender[19] | (sender[18] & 3) << 8]
        if giving is None:
            giving = thaw(which)
        taking = writable[which := recipient[19] | (recipient[18] & 3) << 8]
        if taking is None:
            taking = thaw(which)
        source, target = giving.get(sender, EMPTY), taking.get(recipient, EMPTY)
        given, taken = source[::STRIDE], target[::STRIDE]
        out, into = given.find(number, 1) * STRIDE, taken.find(number, 1) * STRIDE
        left = (_integer(source[out + 1 : out + STRIDE]) if out > 0 else 0) - scaled
        more = (_integer(target[into + 1 : into + STRIDE]) if into > 0 else 0) + scaled
        if sender == recipient or left < 0 or more >= _LIMIT:
            raise UnusualError
        keep((recipient, target, sender, source))
        if into < 0 or not left:
            ledger.put(recipient, target, ledger.changed(recipient, target, into, number, more))
            ledger.put(sender, source, ledger.changed(sender, source, out, number, left))
            if into < 0:
                ledger.know(target[0], (reserve.id,))
            return
        taking[recipient] = target[: into + 1] + more.to_bytes(16) + target[into + STRIDE :]
        giving[sender] = source[: out + 1] + left.to_bytes(16) + source[out + STRIDE :]
        if _integer(taken, "little") & DEBTS:
            ledger.touched.add(recipient)
        if _integer(given, "little") & DEBTS:
            ledger.touched.add(sender)

    return transfer


def flag_rule(ledger: Ledger, kept: list[bytes], *, used: bool) -> Change:
    """Return what marks a supply as collateral, or no longer as one."""
    get, put, keep = ledger.accounts.get, ledger.put, kept.extend
    bits = {word_of(asset): 1 << each.id for asset, each in ledger.by_asset.items()}

    def change_flag(topics: Topics, data: str) -> None:
        _, asset, named = topics
        if data != "0x" or len(named) != 66 or not FIRST <= named < PAST:
            raise UnusualError
        bit = bits[asset]
        holder: Address = unhexlify(named[26:])  # type: ignore[assignment]  # costs no call
        record = get(holder)
        flags = _integer(record[1:STRIDE])
        flags = flags | bit if used else flags & ~bit
        keep((holder, record))
        put(holder, record, record[:1] + flags.to_bytes(16) + record[STRIDE:])

    return change_flag


def rates_rule(ledger: Ledger, told: dict[Address, bytes]) -> Change:
    """Return what keeps the last rates of each reserve, as `rates.Rates` does."""
    assets = {word_of(asset): asset for asset in ledger.by_asset}

    def take(topics: Topics, data: str) -> None:
        _, asset = topics
        if len(data) != 322:
            raise UnusualError
        told[assets[asset]] = unhexlify(data[2:])

    return take


def word_of(address: Address) -> str:
    """Return an address as an event's topic has it."""
    return FIRST + address.hex()


def prove_word(text: str) -> None:
    """Raise `ValueError` unless a text is a word."""
    if len(text) != 66 or text[:2] != "0x":
        raise UnusualError
    unhexlify(text[2:])
