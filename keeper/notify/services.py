"""Messages through apprise: chats, mail, and everything else it has a URL for."""

import asyncio
import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keeper.errors import ConfigError, TransientError
from keeper.notify.note import Note, Severity

if TYPE_CHECKING:
    import apprise

TIMEOUT = 20.0
"""Seconds a service may take."""
_ORDER = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)
_TYPES = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "failure"}


class Services:
    """Send messages to one apprise URL, several of them as one text.

    Services limit how many texts they take, so a storm is told in few. The URL is a secret.
    """

    most = 10

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._apprise = _opened(name, url)

    def __repr__(self) -> str:
        return f"Services({self.name})"

    async def send(self, notes: Sequence[Note]) -> None:
        """Hand messages over as one text; raise `TransientError` when the service did not take it."""
        title = notes[0].title if len(notes) == 1 else f"keeper: {len(notes)} messages"
        texts = [each.text if len(notes) == 1 else f"{each.title}\n{each.text}" for each in notes]
        severity = max((each.severity for each in notes), key=_ORDER.index)
        try:
            async with asyncio.timeout(TIMEOUT):
                taken = await self._apprise.async_notify(
                    title=title, body="\n\n".join(texts), notify_type=_TYPES[severity]
                )
        except TimeoutError:
            raise TransientError(f"no answer in {TIMEOUT:g} s") from None
        if not taken:
            raise TransientError("the service did not take it")

    async def close(self) -> None:
        """Keep nothing open."""


def _opened(name: str, url: str) -> "apprise.Apprise":
    """Return what sends to a URL; raise `ConfigError` for one that apprise does not know.

    It imports all its services, for which it takes seconds: so only where it is used.
    """
    # What it logs of a failure may hold the URL's secrets in a form that nobody recognises.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import apprise  # noqa: PLC0415

        found = apprise.Apprise()
        if not found.add(url):
            raise ConfigError(
                f"notify.channels.{name}: apprise knows no service behind its url",
                "the forms of URLs are in apprise's documentation",
            )
    return found
