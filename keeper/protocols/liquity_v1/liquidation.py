"""Who was liquidated, by the trove manager's own event (TroveManager.TroveLiquidated)."""

from keeper.chain.words import uints
from keeper.ports import Told
from keeper.protocols.liquity_v1.events import LIQUIDATE, TROVE_LIQUIDATED
from keeper.protocols.liquity_v1.terms import Deployment
from keeper.protocols.liquity_v1.words import subject
from keeper.types import Log
from keeper.units import ZERO_ADDRESS


def read_liquidation(log: Log, deployment: Deployment) -> Told | None:
    """Return what a log tells of a liquidation, None when it tells of something else.

    It counts a trove's principal without interest, and names no liquidator.
    """
    manager = deployment.contracts.manager
    if log.address != manager or log.topics[:1] != (TROVE_LIQUIDATED,):
        return None
    debt, collateral, operation = uints(log.data, 3)
    if operation != LIQUIDATE:
        return None
    owed, held = deployment.debt.address, deployment.coin.address
    return subject(log), owed, held, debt, collateral, ZERO_ADDRESS
