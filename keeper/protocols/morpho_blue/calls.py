"""How the liquidator contract liquidates in a market of Morpho Blue (IMorpho.liquidate)."""

from keeper.chain.words import selector, word
from keeper.protocols.morpho_blue.ledger import Pool
from keeper.protocols.morpho_blue.terms import Way
from keeper.types import CallLiquidation
from keeper.units import Address

_PARAMS = "(address,address,address,address,uint256)"
LIQUIDATE = selector(f"liquidate({_PARAMS},address,uint256,uint256,bytes)")
FLASH_LOAN = selector("flashLoan(address,uint256,bytes)")
_DATA_AT = 9 * 32
"""Where the empty data for a callback starts, behind five words of terms and four of the call."""
_NOTHING = word(_DATA_AT) + word(0)
_SHARES_AT = 1
"""Which word of IMorpho.position has the borrow shares."""


PRE_LIQUIDATE = selector("preLiquidate(address,uint256,uint256,bytes)")


def pre_liquidation(morpho: Address, pool: Pool, contract: Address) -> CallLiquidation:
    """Return the call of a pre-liquidation contract that names shares to repay."""
    return CallLiquidation(
        target=contract,
        opening=PRE_LIQUIDATE,
        middle=word(0),
        closing=word(4 * 32) + word(0),
        viewed=morpho,
        view=selector("position(bytes32,address)") + pool.id,
        nth=_SHARES_AT,
        unbounded=True,
    )


def liquidation(morpho: Address, pool: Pool, way: Way) -> CallLiquidation:
    """Return the call that names shares to repay, or collateral to take; the other word is zero.

    The amount it names is no amount of the debt token, so no sum of it bounds the approval. The debt
    is proven by the borrow shares that are left.
    """
    opening = LIQUIDATE + pool.terms.words
    by_shares = way is Way.SHARES
    return CallLiquidation(
        target=morpho,
        opening=opening,
        middle=word(0) if by_shares else b"",
        closing=_NOTHING if by_shares else word(0) + _NOTHING,
        viewed=morpho,
        view=selector("position(bytes32,address)") + pool.id,
        nth=_SHARES_AT,
        unbounded=True,
    )
