"""Load a chain's state at its newest head, and at a newer one when the node cannot keep up."""

from collections.abc import Awaitable, Callable

import structlog

from keeper.errors import ConfigError, IncompleteError, StateGoneError, TransientError
from keeper.ports import Reader
from keeper.types import Head

log = structlog.get_logger(__name__)

TRIES = 6
"""Newer heads tried; the history is read only once, so each try is only the reads at a block."""
BELIEVED_INCOMPLETE = 3
"""Times in a row a node's answers have to miss the same sums before the settings are blamed."""


async def load_at_newest(
    chain: str, reader: Reader, load: Callable[[Head], Awaitable[None]]
) -> Head:
    """Load at the newest head and return the head it succeeded at.

    A node without an archive drops a block's state after some minutes, and a reorg replaces the
    block: then it is begun again at a newer head, and also when the answers do not add up; the
    second time what was kept of the history is read again too. Raises `TransientError` when no try
    held, `ConfigError` when the answers keep missing what a setting may leave out.
    """
    incomplete = 0
    for number in range(1, TRIES + 1):
        head = await reader.head()
        try:
            await load(head)
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
