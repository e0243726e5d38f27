"""Which answers of one node are worth asking another node about."""

import re
from enum import Enum, auto
from typing import Any

from keeper.errors import RpcError

_UNKNOWN_BLOCK = re.compile(
    r"(header|block)\b.{0,90}(not found|unknown|not available|unavailable|out of range)"
    r"|unknown (block|header)|not (find|found).{0,20}(block|header)|resource not found"
    r"|missing trie node|state\b.{0,90}(not available|unavailable|not found)|no state available"
    r"|^(0x[0-9a-f]{64}|\d+) could not be found|blocks specified in filter.{0,60}cannot be found"
    r"|not have the requested (block|header)|receipts? not available for 'to' block"
    r"|blockoutofrange|beyond (the )?(current )?head",
    re.IGNORECASE,
)
_DROPPED = re.compile(
    r"prun|history.{0,40}(unavailable|not available|not found)|data before\b.{0,40}not available"
    r"|receipts? not available for (?!'to' )",
    re.IGNORECASE,
)
"""Nethermind says of logs it never had what it says of those it has no more."""
_REVERTED = 3
_METHOD_NOT_FOUND = -32601
_PRUNED_HISTORY = 4444
"""EIP-4444."""
BLOCKS = frozenset({"eth_getBlockByHash", "eth_getBlockByNumber"})
_TRANSACTIONS = frozenset({"eth_getTransactionByHash", "eth_getTransactionReceipt"})


class Kind(Enum):
    """What an answer is worth."""

    FINAL = auto()
    """Every node of the chain would say so."""
    UNKNOWN_BLOCK = auto()
    """The node does not hold a block: it lags when another one does."""
    DROPPED = auto()
    """The node has done away with what is old; one that keeps the whole history may have it."""
    ABSENT = auto()
    """The node does not hold a transaction; another one may."""
    UNSUPPORTED = auto()
    """The node does not offer the method."""
    REFUSED = auto()
    """The provider turned the request away over HTTP: a key, a plan, a firewall."""


def kind_of_result(method: str, result: Any) -> Kind:
    """Say what a result is worth."""
    if result is not None:
        return Kind.FINAL
    if method in BLOCKS:
        return Kind.UNKNOWN_BLOCK
    return Kind.ABSENT if method in _TRANSACTIONS else Kind.FINAL


def kind_of_error(error: RpcError) -> Kind:
    """Say what an error answer is worth; a revert is final whatever it says."""
    if error.code == _REVERTED or error.data is not None or "revert" in error.message.lower():
        return Kind.FINAL
    if error.code == _METHOD_NOT_FOUND:
        return Kind.UNSUPPORTED
    if 400 <= error.code < 600:
        return Kind.REFUSED
    if error.code == _PRUNED_HISTORY or _DROPPED.search(error.message):
        return Kind.DROPPED
    return Kind.UNKNOWN_BLOCK if _UNKNOWN_BLOCK.search(error.message) else Kind.FINAL
