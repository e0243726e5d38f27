"""Load every holder of a market at one block: who, and each debt's index, from the logs."""

import asyncio
from collections.abc import Generator, Iterable, Iterator, Sequence

from keeper.chain.words import answered, read, uint
from keeper.ports import Reader
from keeper.protocols.compound_v2.bootstrap import Deployment, incomplete
from keeper.protocols.compound_v2.ctoken import CToken, Debt
from keeper.protocols.compound_v2.events import (
    ACCRUE,
    ACCRUE_FIRST,
    BORROW,
    ENTERED,
    MINT_VAI,
    POOL_SELECTED,
    REPAY,
    RESTRICTED,
    TRANSFER,
)
from keeper.protocols.compound_v2.exponential import borrow_balance_down
from keeper.protocols.compound_v2.ledger import CORE, Ledger
from keeper.protocols.compound_v2.vai import Unread, minter_calls, take_minter
from keeper.types import Call, CallResult, Head, Log, Watch
from keeper.units import WAD, ZERO_ADDRESS, Address

HELD, OWED, OTHER = 1, 2, 3
WIDTH = 81
"""Kind 1, contract 20, account 20, block 5, log 3, principal 16, index 16."""


async def load_holders(
    reader: Reader, deployment: Deployment, head: Head, ledger: Ledger, first_block: int
) -> None:
    """Fill a ledger that knows its cTokens as of exactly this head.

    A contract tells what is owed and not since which index, so that each debt's last event is taken
    with the interest event before it; what it owes by that has to be what the contract says. Work on
    all holders at once is done in another thread.
    """
    beside = {deployment.comptroller, deployment.liquidator, deployment.vai} - {ZERO_ADDRESS}
    watch = Watch(
        frozenset(ledger.by_address) | beside,
        frozenset(
            {
                *(TRANSFER, BORROW, REPAY, ACCRUE, ACCRUE_FIRST),
                *(ENTERED, POOL_SELECTED, RESTRICTED, MINT_VAI),
            }
        ),
    )
    stage = f"holders and debts of {ledger.market}"
    found = await reader.collect(stage, watch, first_block, head.number, Keying())
    history = await asyncio.to_thread(_History, ledger, found)
    storing = _storing(ledger, deployment, history, first_block)
    next(storing)

    def take(results: Sequence[CallResult]) -> None:
        for result in results:
            storing.send(result)

    calls, total = _calls(deployment, history), _count(deployment, history)
    await reader.sweep(f"holders of {ledger.market}", calls, total, head.hash, take)
    await _check_totals(reader, head, ledger, first_block)


class Keying:
    """Returns what a log tells of one account, in `WIDTH` bytes.

    A debt's event is told with the interest event that stands before it in its block, so that those,
    by far the most, are not kept. One that has none is of the cToken's first block.
    """

    def __init__(self) -> None:
        self._accrued: dict[Address, tuple[int, bytes]] = {}

    def __call__(self, log: Log) -> bytes:
        """Return a log's key, which ends where it tells of nobody in zeros."""
        name, data = log.topics[0], log.data
        words = [*log.topics[1:], *(data[at : at + 32] for at in range(0, len(data), 32))]
        try:
            if name == TRANSFER:
                return _key(HELD, log.address, words[1])
            if name in {BORROW, REPAY}:
                return self._debt(log, words, *((0, 2) if name == BORROW else (1, 3)))
            if name in {ACCRUE, ACCRUE_FIRST}:
                self._accrued[log.address] = log.block_number, words[-2]
                return bytes(WIDTH)
            if name == ENTERED:
                return _key(HELD, Address(words[0][12:]), words[1])
            return _key(OTHER, log.address, words[0])
        except (IndexError, OverflowError):
            # No log of these contracts; what it should have told is missed by the totals.
            return bytes(WIDTH)

    def _debt(self, log: Log, words: Sequence[bytes], borrower: int, principal: int) -> bytes:
        block, index = self._accrued.get(log.address, (-1, b""))
        since = index if block == log.block_number else bytes(32)
        at = log.block_number.to_bytes(5, "big") + log.index.to_bytes(3, "big")
        return _key(OWED, log.address, words[borrower], at, words[principal], since)


def _key(
    kind: int,
    contract: Address,
    account: bytes,
    at: bytes = bytes(8),
    principal: bytes = bytes(32),
    index: bytes = bytes(32),
) -> bytes:
    if any(principal[:16]) or any(index[:16]):
        raise OverflowError("a principal or an index is over 128 bits")
    return bytes((kind,)) + contract + account[12:] + at + principal[16:] + index[16:]


class _History:
    """What the logs told: who may hold what, and each debt's last event."""

    def __init__(self, ledger: Ledger, found: Iterable[bytes]) -> None:
        self.held: dict[tuple[Address, Address], None] = {}
        self.owed: dict[tuple[Address, Address], bytes] = {}
        self.others: dict[tuple[Address, Address], None] = {}
        for each in found:
            kind, contract, account = each[0], Address(each[1:21]), Address(each[21:41])
            if kind == OTHER:
                self.others[contract, account] = None
            elif kind and contract in ledger.by_address:
                self.held[contract, account] = None
                if kind == OWED and each[41:] > self.owed.get((contract, account), b""):
                    self.owed[contract, account] = each[41:]


def _last(event: bytes) -> Debt:
    """Return the principal and the index of a debt's last event."""
    return int.from_bytes(event[8:24], "big"), int.from_bytes(event[24:], "big") or WAD


def _count(deployment: Deployment, history: _History) -> int:
    minters = sum(contract == deployment.vai for contract, _ in history.others)
    return 2 * len(history.held) + len(history.owed) + len(history.others) + 2 * minters


def _calls(deployment: Deployment, history: _History) -> Iterator[Call]:
    comptroller = deployment.comptroller
    for ctoken, account in history.held:
        yield read(ctoken, "balanceOf(address)", account)
        yield read(comptroller, "checkMembership(address,address)", account, ctoken)
    for ctoken, account in history.owed:
        yield read(ctoken, "borrowBalanceStored(address)", account)
    for contract, account in history.others:
        if contract == comptroller:
            yield read(comptroller, "userPoolId(address)", account)
        elif contract == deployment.liquidator:
            yield read(contract, "liquidationRestricted(address)", account)
        else:
            yield from minter_calls(contract, comptroller, account)


def _storing(
    ledger: Ledger, deployment: Deployment, history: _History, first_block: int
) -> Generator[None, CallResult, None]:
    """Take the answers to `_calls` one by one, and store what they tell."""

    def told(result: CallResult, what: str) -> int:
        if not answered(result):
            raise incomplete(ledger, f"{what} was not answered", 0)
        return uint(result.data)

    for address, account in history.held:
        ctoken = ledger.by_address[address]
        balance, is_member = told((yield), "a balance"), told((yield), "a membership")
        if account == ctoken.address:
            continue
        if balance:
            ledger.set_balance(account, ctoken, balance)
        if is_member:
            ledger.set_entered(account, ctoken, entered=True)
    for (address, account), event in history.owed.items():
        ctoken = ledger.by_address[address]
        owed, (principal, since) = told((yield), "a debt"), _last(event)
        if borrow_balance_down(principal, ctoken.index, since) != owed:
            what = f"0x{account.hex()} owes {owed} of {ctoken.token.symbol}, not {principal}"
            raise incomplete(ledger, f"{what} since index {since}", first_block)
        ledger.set_debt(account, ctoken, (principal, since))
    for contract, account in history.others:
        if contract == deployment.vai:
            debt = take_minter([(yield), (yield), (yield)])
            if debt is None or debt.amount:
                ledger.set_minter(account, debt or Unread())
            continue
        value = told((yield), "a pool or a restriction")
        if contract == deployment.comptroller:
            ledger.set_pool(account, value or CORE)
        elif value:
            ledger.restricted.add(account)
    yield


async def _check_totals(reader: Reader, head: Head, ledger: Ledger, first_block: int) -> None:
    calls: list[Call] = []
    for ctoken in ledger.ctokens:
        calls.append(read(ctoken.address, "totalSupply()"))
        calls.append(read(ctoken.address, "balanceOf(address)", ctoken.address))
    results: Sequence[CallResult] = await reader.multicall(calls, head.hash)
    for number, ctoken in enumerate(ledger.ctokens):
        total, own = (uint(each.data) for each in results[2 * number : 2 * number + 2])
        held = await asyncio.to_thread(_sum, ctoken)
        if total != held + own:
            what = f"holders of {ctoken.token.symbol} sum to {held}, not {total - own}"
            raise incomplete(ledger, what, first_block)


def _sum(ctoken: CToken) -> int:
    return sum(ctoken.balances.values())
