"""Load every holder of a market at one block: who, and each debt's index, from the logs."""

from collections.abc import Iterator, Sequence

from keeper.chain.words import answered, read, uint
from keeper.ports import Reader
from keeper.protocols.compound_v2.bootstrap import Deployment, incomplete
from keeper.protocols.compound_v2.ctoken import CToken
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

HELD, OWED, ACCRUED, OTHER = 1, 2, 3, 4
WIDTH = 65
"""Kind 1, cToken 20, account 20, block 5, log 3, value 16."""


async def load_holders(
    reader: Reader, deployment: Deployment, head: Head, ledger: Ledger, first_block: int
) -> None:
    """Fill a ledger that knows its cTokens as of exactly this head.

    A contract tells what is owed and not since which index, so that each debt's last event is taken
    with the interest event of its block; what it owes by that has to be what the contract says.
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
    stage = f"history of {ledger.market}"
    found = await reader.collect(stage, watch, first_block, head.number, key)
    history = _History(ledger)
    for each in found:
        history.take(each)
    calls = list(_calls(deployment, history))
    answered_all: list[CallResult] = []
    await reader.sweep(
        f"holders of {ledger.market}", calls, len(calls), head.hash, answered_all.extend
    )
    _store(ledger, deployment, history, iter(answered_all), first_block)
    await _check_totals(reader, head, ledger, first_block)


def key(log: Log) -> bytes:
    """Return what a log tells of one account, or of a cToken's index, in `WIDTH` bytes."""
    name, data = log.topics[0], log.data
    words = [*log.topics[1:], *(data[at : at + 32] for at in range(0, len(data), 32))]
    at = log.block_number.to_bytes(5, "big") + log.index.to_bytes(3, "big")
    try:
        if name == TRANSFER:
            return _key(HELD, log.address, words[1])
        if name in {BORROW, REPAY}:
            borrower, principal = (words[0], words[2]) if name == BORROW else (words[1], words[3])
            return _key(OWED, log.address, borrower, at, principal)
        if name in {ACCRUE, ACCRUE_FIRST}:
            return _key(ACCRUED, log.address, bytes(32), at, words[-2])
        if name == ENTERED:
            return _key(HELD, Address(words[0][12:]), words[1])
        return _key(OTHER, log.address, words[0])
    except (IndexError, OverflowError):
        # No log of these contracts; what it should have told is missed by the totals.
        return bytes(WIDTH)


def _key(
    kind: int, ctoken: Address, account: bytes, at: bytes = bytes(8), value: bytes = bytes(32)
) -> bytes:
    if any(value[:16]):
        raise OverflowError("a principal or an index is over 128 bits")
    return bytes((kind,)) + ctoken + account[12:] + at + value[16:]


class _History:
    """What the logs told: who may hold what, and each debt's last event."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.held: dict[tuple[Address, Address], None] = {}
        self.owed: dict[tuple[Address, Address], tuple[bytes, int]] = {}
        self.indexes: dict[tuple[Address, bytes], int] = {}
        self.others: dict[tuple[Address, Address], None] = {}

    def take(self, found: bytes) -> None:
        kind, contract, account = found[0], Address(found[1:21]), Address(found[21:41])
        at, value = found[41:49], int.from_bytes(found[49:], "big")
        if kind == ACCRUED:
            self.indexes[contract, at[:5]] = value
        elif kind == OTHER:
            self.others[contract, account] = None
        elif contract in self._ledger.by_address:
            self.held[contract, account] = None
            if kind == OWED:
                known = self.owed.get((contract, account))
                if known is None or known[0] < at:
                    self.owed[contract, account] = at, value

    def index(self, ctoken: CToken, at: bytes) -> int:
        """Return the index a debt was written at; a cToken's first block has no interest event."""
        return self.indexes.get((ctoken.address, at[:5]), WAD)

    @property
    def accounts(self) -> list[Address]:
        """Return everybody who may hold or owe anything."""
        return list({account: None for _, account in self.held})


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


def _store(
    ledger: Ledger,
    deployment: Deployment,
    history: _History,
    results: Iterator[CallResult],
    first_block: int,
) -> None:
    def take(what: str) -> int:
        result = next(results)
        if not answered(result):
            raise incomplete(ledger, f"{what} was not answered", 0)
        return uint(result.data)

    for address, account in history.held:
        ctoken = ledger.by_address[address]
        balance, is_member = take("a balance"), take("a membership")
        if account == ctoken.address:
            continue
        if balance:
            ledger.set_balance(account, ctoken, balance)
        if is_member:
            ledger.set_entered(account, ctoken, entered=True)
    for (address, account), (at, principal) in history.owed.items():
        ctoken = ledger.by_address[address]
        owed, since = take("a debt"), history.index(ctoken, at)
        if borrow_balance_down(principal, ctoken.index, since) != owed:
            what = f"0x{account.hex()} owes {owed} of {ctoken.token.symbol}, not {principal}"
            raise incomplete(ledger, f"{what} since index {since}", first_block)
        ledger.set_debt(account, ctoken, (principal, since))
    for contract, account in history.others:
        if contract == deployment.vai:
            debt = take_minter([next(results) for _ in range(3)])
            if debt is None or debt.amount:
                ledger.set_minter(account, debt or Unread())
            continue
        value = take("a pool or a restriction")
        if contract == deployment.comptroller:
            ledger.set_pool(account, value or CORE)
        elif value:
            ledger.restricted.add(account)


async def _check_totals(reader: Reader, head: Head, ledger: Ledger, first_block: int) -> None:
    calls: list[Call] = []
    for ctoken in ledger.ctokens:
        calls.append(read(ctoken.address, "totalSupply()"))
        calls.append(read(ctoken.address, "balanceOf(address)", ctoken.address))
    results: Sequence[CallResult] = await reader.multicall(calls, head.hash)
    for number, ctoken in enumerate(ledger.ctokens):
        total, own = (uint(each.data) for each in results[2 * number : 2 * number + 2])
        held = sum(ctoken.balances.values())
        if total != held + own:
            what = f"holders of {ctoken.token.symbol} sum to {held}, not {total - own}"
            raise incomplete(ledger, what, first_block)
