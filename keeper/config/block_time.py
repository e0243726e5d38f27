"""How many seconds lie between two blocks of a chain, unless the operator says otherwise."""

from keeper.config.inclusion import DEFAULTS
from keeper.fees import Inclusion

_USUAL = {Inclusion.OP_STACK: 2, Inclusion.ARBITRUM: 1}
DEFAULT = 12
"""Ethereum's slot, which is also what a chain of unknown pace is taken for."""
BLOCK_TIMES = {
    **{chain_id: _USUAL[inclusion] for chain_id, inclusion in DEFAULTS.items()},
    1: DEFAULT,  # Ethereum
    56: 1,  # BNB Smart Chain
    100: 5,  # Gnosis
    130: 1,  # Unichain
    137: 2,  # Polygon
    146: 1,  # Sonic
    324: 1,  # zkSync Era
    5000: 2,  # Mantle
    42220: 1,  # Celo
    43114: 2,  # Avalanche
    57073: 1,  # Ink
    59144: 2,  # Linea
    80094: 2,  # Berachain
    81457: 2,  # Blast
    534352: 3,  # Scroll
    11155111: DEFAULT,  # Sepolia
}
"""Whole seconds by chain id; a chain that is faster than one a second has one."""


def default_block_time(chain_id: int) -> int:
    """Return a known chain's seconds between two blocks, Ethereum's for any other."""
    return BLOCK_TIMES.get(chain_id, DEFAULT)
