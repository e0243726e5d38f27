"""Which chains include and charge transactions in which way, unless the operator says otherwise."""

from keeper.fees import Inclusion

_OP_STACK = (
    10,  # OP Mainnet
    130,  # Unichain
    252,  # Fraxtal
    480,  # World Chain
    1135,  # Lisk
    1868,  # Soneium
    8453,  # Base
    34443,  # Mode
    57073,  # Ink
    60808,  # BOB
    7777777,  # Zora
    84532,  # Base Sepolia
    11155420,  # OP Sepolia
)
_ARBITRUM = (
    42161,  # Arbitrum One
    42170,  # Arbitrum Nova
    421614,  # Arbitrum Sepolia
)
DEFAULTS = dict.fromkeys(_OP_STACK, Inclusion.OP_STACK) | dict.fromkeys(
    _ARBITRUM, Inclusion.ARBITRUM
)


def default_inclusion(chain_id: int) -> Inclusion:
    """Return a known chain's model, `auction` for any other."""
    return DEFAULTS.get(chain_id, Inclusion.AUCTION)
