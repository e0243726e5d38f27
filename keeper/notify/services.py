"""Messages through apprise: chats, mail, and everything else it has a URL for."""

import asyncio
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import TYPE_CHECKING

from keeper.errors import ConfigError, TransientError
from keeper.notify.channel import LaterError, RefusedError
from keeper.notify.note import Note, Severity

if TYPE_CHECKING:
    import apprise

TIMEOUT = 20.0
"""Seconds a service may take."""
_BETWEEN = "\n\n"
_TITLE = 32
"""Characters left for the title of several messages: some services put it into the text."""
_ORDER = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)
_TYPES = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "failure"}


class Services:
    """Send messages to one apprise URL, several of them as one text.

    Services limit how many texts they take and how long each is, so a storm is told in few, and a
    text that alone is too long goes out in parts. The URL is a secret.
    """

    most = 10

    def __init__(self, name: str, url: str, now: Callable[[], float] = time.time) -> None:
        self.name = name
        self._now = now
        self._apprise = _opened(name, url)
        self._longest = min(server.body_maxlen for server in self._apprise)

    def __repr__(self) -> str:
        return f"Services({self.name})"

    def fitting(self, notes: Sequence[Note]) -> int:
        """Return how many of these go into one text as long as the service takes it."""
        count, length = 1, _TITLE + len(_told(notes[0]))
        for each in notes[1 : self.most]:
            length += len(_BETWEEN) + len(_told(each))
            if length > self._longest:
                break
            count += 1
        return count

    async def send(self, notes: Sequence[Note]) -> None:
        """Hand messages over as one text; raise `RefusedError` when the service did not take it.

        apprise does not say why, but for a few services' limits. Raises `TransientError` when there was
        no answer, or a service is known to want none yet.
        """
        self._be_patient(is_tried=False)
        title = notes[0].title if len(notes) == 1 else f"keeper: {len(notes)} messages"
        texts = [each.text if len(notes) == 1 else _told(each) for each in notes]
        severity = max((each.severity for each in notes), key=_ORDER.index)
        try:
            async with asyncio.timeout(TIMEOUT):
                taken = await self._apprise.async_notify(
                    title=title, body=_BETWEEN.join(texts), notify_type=_TYPES[severity]
                )
        except TimeoutError:
            raise TransientError(f"no answer in {TIMEOUT:g} s") from None
        if not taken:
            self._be_patient(is_tried=True)
            raise RefusedError("the service did not take it")

    def _be_patient(self, *, is_tried: bool) -> None:
        """Raise `LaterError` while a service takes nothing; apprise would wait for it, and be cut off."""
        for server in self._apprise:
            if getattr(server, "ratelimit_remaining", 1) <= 0 and (
                until := getattr(server, "ratelimit_reset", None)
            ):
                seconds = until.replace(tzinfo=UTC).timestamp() - self._now()
                if seconds > 0:
                    why = "it reached the service's limit"
                    raise LaterError(why, seconds, is_tried=is_tried)

    async def close(self) -> None:
        """Keep nothing open."""


def _told(note: Note) -> str:
    return f"{note.title}\n{note.text}"


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
        for server in found:
            if "overflow=" not in url:
                server.overflow_mode = apprise.OverflowMode.SPLIT
    return found
