"""How each event of Morpho Blue changes the ledger (EventsLib.sol, and AdaptiveCurveIrm.sol)."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from keeper.chain.words import WORD, address, topic, uint
from keeper.errors import UndecodableError
from keeper.protocols.morpho_blue.early import AUTHORIZE
from keeper.protocols.morpho_blue.ledger import Ledger, Pool, Terms
from keeper.protocols.morpho_blue.words import indexed_address, indexed_id
from keeper.types import Log, Undo
from keeper.units import Address

Handler = Callable[[Ledger, Pool, Log], list[Undo]]
_PARAMS = "(address,address,address,address,uint256)"


def _supply(ledger: Ledger, pool: Pool, log: Log) -> list[Undo]:
    return _supplied(ledger, pool, uint(log.data), uint(log.data, 1))


def _withdraw(ledger: Ledger, pool: Pool, log: Log) -> list[Undo]:
    return _supplied(ledger, pool, -uint(log.data, 1), -uint(log.data, 2))


def _supplied(ledger: Ledger, pool: Pool, assets: int, shares: int) -> list[Undo]:
    now = pool.totals
    totals = replace(
        now,
        supply_assets=now.supply_assets + assets,
        supply_shares=now.supply_shares + shares,
    )
    return [ledger.set_totals(pool, totals)]


def _borrow(ledger: Ledger, pool: Pool, log: Log) -> list[Undo]:
    assets, shares, now = uint(log.data, 1), uint(log.data, 2), pool.totals
    totals = replace(
        now,
        borrow_assets=now.borrow_assets + assets,
        borrow_shares=now.borrow_shares + shares,
    )
    who = indexed_address(log, 2)
    return [ledger.set_totals(pool, totals), ledger.change(pool, who, 0, shares)]


def _repay(ledger: Ledger, pool: Pool, log: Log) -> list[Undo]:
    assets, shares, now = uint(log.data), uint(log.data, 1), pool.totals
    totals = replace(
        now,
        # what is repaid is rounded up and may be a wei more than all that is owed
        borrow_assets=max(now.borrow_assets - assets, 0),
        borrow_shares=now.borrow_shares - shares,
    )
    who = indexed_address(log, 3)
    return [ledger.set_totals(pool, totals), ledger.change(pool, who, 0, -shares)]


def _supply_collateral(ledger: Ledger, pool: Pool, log: Log) -> list[Undo]:
    return [ledger.change(pool, indexed_address(log, 3), uint(log.data), 0)]


def _withdraw_collateral(ledger: Ledger, pool: Pool, log: Log) -> list[Undo]:
    return [ledger.change(pool, indexed_address(log, 2), -uint(log.data, 1), 0)]


def _liquidate(ledger: Ledger, pool: Pool, log: Log) -> list[Undo]:
    repaid, shares, seized, bad_debt, bad_shares = (uint(log.data, at) for at in range(5))
    now = pool.totals
    totals = replace(
        now,
        borrow_assets=max(now.borrow_assets - repaid, 0) - bad_debt,
        borrow_shares=now.borrow_shares - shares - bad_shares,
        supply_assets=now.supply_assets - bad_debt,
        bad_debt=now.bad_debt + bad_debt,
    )
    who = indexed_address(log, 3)
    return [
        ledger.set_totals(pool, totals),
        ledger.change(pool, who, -seized, -shares - bad_shares),
    ]


def _accrue(ledger: Ledger, pool: Pool, log: Log) -> list[Undo]:
    interest, minted, now = uint(log.data, 1), uint(log.data, 2), pool.totals
    totals = replace(
        now,
        borrow_assets=now.borrow_assets + interest,
        supply_assets=now.supply_assets + interest,
        supply_shares=now.supply_shares + minted,
        updated_at=log.timestamp,
    )
    return [ledger.set_totals(pool, totals)]


def _fee(ledger: Ledger, pool: Pool, log: Log) -> list[Undo]:
    return [ledger.set_totals(pool, replace(pool.totals, fee=uint(log.data)))]


def _rate(ledger: Ledger, pool: Pool, log: Log) -> list[Undo]:
    totals = replace(pool.totals, rate_at_target=uint(log.data, 1))
    return [ledger.set_totals(pool, totals)]


_EVENTS: tuple[tuple[str, int, int, Handler], ...] = (
    ("Supply(bytes32,address,address,uint256,uint256)", 4, 2, _supply),
    ("Withdraw(bytes32,address,address,address,uint256,uint256)", 4, 3, _withdraw),
    ("Borrow(bytes32,address,address,address,uint256,uint256)", 4, 3, _borrow),
    ("Repay(bytes32,address,address,uint256,uint256)", 4, 2, _repay),
    ("SupplyCollateral(bytes32,address,address,uint256)", 4, 1, _supply_collateral),
    ("WithdrawCollateral(bytes32,address,address,address,uint256)", 4, 2, _withdraw_collateral),
    (
        "Liquidate(bytes32,address,address,uint256,uint256,uint256,uint256,uint256)",
        4,
        5,
        _liquidate,
    ),
    ("AccrueInterest(bytes32,uint256,uint256,uint256)", 2, 3, _accrue),
    ("SetFee(bytes32,uint256)", 2, 1, _fee),
)
HANDLERS: Mapping[bytes, tuple[str, int, int, Handler]] = {
    topic(signature): (signature.partition("(")[0], topics, words, handler)
    for signature, topics, words, handler in _EVENTS
}
"""Name, number of topics, words of data and effect of every event of Morpho, by first topic."""
CREATE = topic(f"CreateMarket(bytes32,{_PARAMS})")
RATE = topic("BorrowRateUpdate(bytes32,uint256,uint256)")
BORROW = topic("Borrow(bytes32,address,address,address,uint256,uint256)")
SUPPLY_COLLATERAL = topic("SupplyCollateral(bytes32,address,address,uint256)")
LIQUIDATE = topic("Liquidate(bytes32,address,address,uint256,uint256,uint256,uint256,uint256)")
TOPICS = frozenset({*HANDLERS, CREATE, RATE, AUTHORIZE})
_RATE_EVENT = ("BorrowRateUpdate", 2, 2, _rate)


def _check_shape(log: Log, topics: int, words: int) -> None:
    if len(log.topics) != topics or len(log.data) != WORD * words:
        raise ValueError(f"it has {len(log.topics)} topics and {len(log.data)} bytes")


def created(log: Log) -> Terms:
    """Return the terms of a market from the event that told of it."""
    _check_shape(log, 2, 5)
    loan, collateral, oracle, irm = (address(log.data, at) for at in range(4))
    return Terms(loan, collateral, oracle, irm, uint(log.data, 4))


def apply(ledger: Ledger, morpho: Address, log: Log) -> list[Undo]:
    """Apply one log of Morpho or a rate model; raise `UndecodableError` when it makes no sense.

    What tells of a market that is not followed changes nothing.
    """
    if len(log.topics) < 2:
        return []
    if log.topics[0] == AUTHORIZE and log.address == morpho:
        return _authorised(ledger, log)
    pool = ledger.pools.get(indexed_id(log))
    kind = HANDLERS.get(log.topics[0]) if log.address == morpho else None
    if log.topics[0] == RATE and pool is not None and log.address == pool.terms.irm:
        kind = _RATE_EVENT
    if kind is None or pool is None:
        return []
    name, topics, words, handler = kind
    try:
        _check_shape(log, topics, words)
        return handler(ledger, pool, log)
    except (ArithmeticError, LookupError, ValueError) as error:
        raise undecodable(ledger, log, name, str(error)) from error


def _authorised(ledger: Ledger, log: Log) -> list[Undo]:
    """Take note of who lets a followed contract act."""
    try:
        _check_shape(log, 4, 1)
        who, contract = indexed_address(log, 2), indexed_address(log, 3)
    except ValueError as error:
        raise undecodable(ledger, log, "SetAuthorization", str(error)) from error
    undos = [
        ledger.authorise(each, who, given=bool(uint(log.data)))
        for each in ledger.early
        if each.terms.contract == contract
    ]
    return [undo for undo in undos if undo is not None]


def undecodable(ledger: Ledger, log: Log, name: str, why: str) -> UndecodableError:
    """Return the error for a log that cannot be read."""
    where = f"0x{log.address.hex()} in block {log.block_number}, log {log.index}"
    return UndecodableError(ledger.market, f"{name} of {where} does not decode: {why}")
