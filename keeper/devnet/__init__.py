"""A local chain with the real Aave v3.6, Uniswap V3 and Multicall3."""

from keeper.devnet.accounts import Cast
from keeper.devnet.chain import Mined, RevertedError, Transaction
from keeper.devnet.devnet import Devnet
from keeper.devnet.model import Account, Market, Pool, Token, Uniswap
from keeper.devnet.reserves import EModeSpec, PoolSpec, ReserveSpec

__all__ = [
    "Account",
    "Cast",
    "Devnet",
    "EModeSpec",
    "Market",
    "Mined",
    "Pool",
    "PoolSpec",
    "ReserveSpec",
    "RevertedError",
    "Token",
    "Transaction",
    "Uniswap",
]
