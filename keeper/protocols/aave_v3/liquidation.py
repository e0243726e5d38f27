"""Who was liquidated, by the pool's own event (IPool.LiquidationCall)."""

from keeper.chain.words import topic, uint
from keeper.ports import Told
from keeper.protocols.aave_v3.words import topic_address
from keeper.types import Log
from keeper.units import Address

LIQUIDATION = topic("LiquidationCall(address,address,address,uint256,uint256,address,bool)")


def read_liquidation(log: Log, pool: Address) -> Told | None:
    """Return what a log tells of a liquidation in a pool, None when it tells of something else."""
    if log.address != pool or log.topics[:1] != (LIQUIDATION,):
        return None
    borrower, debt = topic_address(log, 3), topic_address(log, 2)
    liquidator = Address(log.data[76:96])
    return borrower, debt, topic_address(log, 1), uint(log.data, 0), uint(log.data, 1), liquidator
