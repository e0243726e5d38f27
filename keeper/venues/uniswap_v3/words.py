"""Calldata, event topics and 32-byte words of v3-core's factory and pool."""

from collections.abc import Sequence

from keeper.units import Address, Hash

POOL_CODE_HASH = Hash(
    bytes.fromhex("e34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54")
)
"""Keccak of UniswapV3Pool's creation code, by which a pool's CREATE2 address is derived."""

GET_POOL = bytes.fromhex("1698ee82")
TICK_SPACING = bytes.fromhex("d0c93a7c")
SLOT0 = bytes.fromhex("3850c7bd")
LIQUIDITY = bytes.fromhex("1a686502")
TICK_BITMAP = bytes.fromhex("5339c296")
TICKS = bytes.fromhex("f30dba93")
BALANCE_OF = bytes.fromhex("70a08231")

POOL_CREATED = bytes.fromhex("783cca1c0412dd0d695e784568c96da2e9c22ff989357a2e8b1d9b2b4e6b7118")
INITIALIZE = bytes.fromhex("98636036cb66a9c19a37435efc1e90142190214e8abeb821bdba3f2990dd4c95")
MINT = bytes.fromhex("7a53080ba414158be7ec69b987b5fb7d07dee101fe85488f0853ae16239d0bde")
BURN = bytes.fromhex("0c396cd989a39f4459b5fa1aed6a9a8dcdbc45908acfd67e028cd568da98982c")
SWAP = bytes.fromhex("c42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67")
COLLECT = bytes.fromhex("70935338e69775456a85ddef226c395fb668b63fa0115f5f20610b388e6ca9c0")
COLLECT_PROTOCOL = bytes.fromhex("596b573906218d3411850b26a6b437d6c4522fdb43d2d2386263f86d50b8b151")
FLASH = bytes.fromhex("bdbdb71d7860376ba52b25a5028beea23581364a40522f6bcfb86bb1f2dca633")

TOPICS = frozenset({POOL_CREATED, INITIALIZE, MINT, BURN, SWAP, COLLECT, COLLECT_PROTOCOL, FLASH})


def calldata(selector: bytes, *arguments: int | Address) -> bytes:
    """Return a call with each argument in one word; integers may be negative."""
    return selector + b"".join(
        argument.rjust(32, b"\0")
        if isinstance(argument, bytes)
        else (argument % 2**256).to_bytes(32, "big")
        for argument in arguments
    )


def unsigned(data: bytes) -> Sequence[int]:
    """Return every word as an unsigned integer."""
    return [int.from_bytes(data[at : at + 32], "big") for at in range(0, len(data), 32)]


def signed(word: int) -> int:
    """Return a word read as two's complement."""
    return word - 2**256 if word >> 255 else word


def topic_int(topic: bytes) -> int:
    """Return an indexed integer, negative ones included."""
    return int.from_bytes(topic, "big", signed=True)


def topic_address(topic: bytes) -> Address:
    """Return an indexed address."""
    return Address(topic[12:])
