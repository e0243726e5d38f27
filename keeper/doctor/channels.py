"""Checks of what people are told through: whether somebody is there, or takes a message."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from keeper.config.notify import ChannelTable
from keeper.doctor.check import Finding, State
from keeper.notify.services import Services

Try = Callable[[str, ChannelTable], Awaitable[str]]
"""Sends a test message through a channel, and returns why it did not arrive, empty when it did."""
SECONDS = 5.0
HINT = "`keeper margin test {name}` sends a message; until somebody takes them, messages wait"


async def check_channel(name: str, table: ChannelTable, attempt: Try | None = None) -> Finding:
    """Connect to a webhook's host; of a service only say that its URL is one apprise knows.

    Nobody there is a warning: messages wait. With an `attempt` a message is sent, and one that does not
    arrive is a failure. Raises `ConfigError` for a URL nobody knows.
    """
    if attempt is not None:
        fault = await attempt(name, table)
        if not fault:
            return State.OK, "it took a test message", ""
        return State.FAIL, f"a test message did not arrive: {fault}", "look at its url and secret"
    url = table.url.get_secret_value()
    if table.kind == "apprise":
        await asyncio.to_thread(Services, name, url)
        return State.OK, "apprise knows its service", ""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=secure or None)
    except (OSError, TimeoutError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        return State.WARN, f"{host}:{port} does not answer ({why})", HINT.format(name=name)
    writer.close()
    return State.OK, f"{host}:{port} answers", ""
