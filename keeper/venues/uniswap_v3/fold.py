"""What each event of a pool changes; every change returns what takes it back."""

from collections.abc import Callable

from keeper.types import Log, Undo
from keeper.venues.uniswap_v3.pool import Point, Pool
from keeper.venues.uniswap_v3.words import (
    BURN,
    COLLECT,
    COLLECT_PROTOCOL,
    FLASH,
    INITIALIZE,
    MINT,
    SWAP,
    signed,
    topic_int,
    unsigned,
)


def fold_pool(pool: Pool, log: Log) -> Undo | None:
    """Apply one log of a pool; return its undo, or None when the event says nothing new."""
    rule = _RULES.get(log.topics[0])
    return None if rule is None else rule(pool, log)


def _moved(pool: Pool, at: Point, paid0: int = 0, paid1: int = 0) -> Undo:
    before = pool.at, pool.balance0, pool.balance1

    def undo() -> None:
        pool.at, pool.balance0, pool.balance1 = before

    pool.at = at
    pool.balance0 += paid0
    pool.balance1 += paid1
    return undo


def _initialize(pool: Pool, log: Log) -> Undo:
    price, tick = unsigned(log.data)
    return _moved(pool, Point(price, signed(tick), 0))


def _swap(pool: Pool, log: Log) -> Undo:
    paid0, paid1, price, liquidity, tick = unsigned(log.data)
    return _moved(pool, Point(price, signed(tick), liquidity), signed(paid0), signed(paid1))


def _mint(pool: Pool, log: Log) -> Undo | None:
    _, amount, paid0, paid1 = unsigned(log.data)
    return _liquidity(pool, log, amount, paid0, paid1)


def _burn(pool: Pool, log: Log) -> Undo | None:
    # The tokens stay in the pool until they are collected.
    amount, _, _ = unsigned(log.data)
    return _liquidity(pool, log, -amount, 0, 0)


def _liquidity(pool: Pool, log: Log, amount: int, paid0: int, paid1: int) -> Undo | None:
    if amount == 0:
        return None
    lower, upper = topic_int(log.topics[2]), topic_int(log.topics[3])
    at = pool.at
    if lower <= at.tick < upper:
        at = at._replace(liquidity=at.liquidity + amount)
    back = _moved(pool, at, paid0, paid1)
    pool.add_liquidity(lower, amount, amount)
    pool.add_liquidity(upper, amount, -amount)

    def undo() -> None:
        pool.add_liquidity(lower, -amount, -amount)
        pool.add_liquidity(upper, -amount, amount)
        back()

    return undo


def _collect(pool: Pool, log: Log) -> Undo:
    # Collect carries the recipient in front of the amounts, CollectProtocol indexes it.
    paid0, paid1 = unsigned(log.data)[-2:]
    return _moved(pool, pool.at, -paid0, -paid1)


def _flash(pool: Pool, log: Log) -> Undo:
    _, _, paid0, paid1 = unsigned(log.data)
    return _moved(pool, pool.at, paid0, paid1)


_RULES: dict[bytes, Callable[[Pool, Log], Undo | None]] = {
    INITIALIZE: _initialize,
    SWAP: _swap,
    MINT: _mint,
    BURN: _burn,
    COLLECT: _collect,
    COLLECT_PROTOCOL: _collect,
    FLASH: _flash,
}
