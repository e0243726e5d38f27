"""Load a chain's state at its newest head, and at a newer one when the node cannot keep up."""

from collections.abc import Awaitable, Callable

import structlog

from keeper.errors import (
    ConfigError,
    IncompleteError,
    InvariantError,
    StateGoneError,
    TransientError,
)
from keeper.ports import Reader
from keeper.types import Head

log = structlog.get_logger(__name__)

TRIES = 6
"""Newer heads tried; the history is read only once, so each try is only the reads at a block."""
BELIEVED_INCOMPLETE = 3
"""Times in a row a node's answers have to miss the same sums before the settings are blamed."""


Load = Callable[[Head, Head], Awaitable[None]]
"""Loads as of exactly the first head, the second being the chain's latest."""


async def load_at_newest(chain: str, reader: Reader, load: Load, below: int = 0) -> Head:
    """Load at the newest head, or first `below` blocks under it; return the head it succeeded at.

    Loaded under the head, a book can be taken back as far when its newest blocks are reorganised
    out. Not every node serves that state and not every contract is as old: then it is the newest.

    A node without an archive drops a block's state after some minutes, and a reorg replaces the
    block: then it is begun again at a newer head, and also when the answers do not add up; the
    second time what was kept of the history is read again too. Raises `TransientError` when no try
    held, `ConfigError` when the answers keep missing what a setting may leave out.
    """
    if below:
        head = await _load_below(chain, reader, load, below)
        if head is not None:
            await reader.forget()
            return head
    incomplete = 0
    for number in range(1, TRIES + 1):
        head = await reader.head()
        try:
            await load(head, head)
        except (StateGoneError, IncompleteError) as error:
            fields = {"chain": chain, "head": head.number, "attempt": number}
            log.warning("bootstrap.restarted", reason=str(error), **fields)
            if isinstance(error, IncompleteError):
                incomplete += 1
                if incomplete > 1:
                    await reader.forget()
                if incomplete == BELIEVED_INCOMPLETE:
                    if error.hint:
                        raise ConfigError(str(error), error.hint) from error
                    raise
        else:
            await reader.forget()
            return head
    raise TransientError(
        f"chains.{chain}: the node drops the state of a block before everything in it is read → "
        "use an archive node, one that keeps more states, or a faster one"
    )


async def _load_below(chain: str, reader: Reader, load: Load, below: int) -> Head | None:
    """Load some blocks under the newest head; None, and the reason told, when that is not possible."""
    latest = await reader.head()
    number = max(latest.number - below, 0)
    try:
        head = await reader.head(number)
        await load(head, latest)
    except Exception as error:
        # Neither a node that does not answer nor a full disk is mended by another block.
        if type(error) is TransientError:
            raise
        if isinstance(error, InvariantError) and error.scope == "journal":
            raise
        reason = str(error) or type(error).__name__
        log.info("bootstrap.at_newest", chain=chain, refused=number, reason=reason)
        return None
    return head
