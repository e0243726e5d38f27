"""Messages as JSON to a URL, signed so that the receiver knows who sent them and when."""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime

import aiohttp
import orjson

from keeper.chain.secrecy import SecretUrl, reason
from keeper.errors import TransientError
from keeper.notify.channel import LaterError, RefusedError
from keeper.notify.note import Note

SIGNATURE = "X-Keeper-Signature"
TIMESTAMP = "X-Keeper-Timestamp"
TIMEOUT = 10.0
"""Seconds an answer may take."""
_TOO_LARGE = frozenset({413, 414, 431})
_LATER = frozenset({408, 425, 429})


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return what the signature header holds: HMAC-SHA256 over timestamp, a dot and the body."""
    digest = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


class Webhook:
    """POST messages as `{"notes": [...]}`; any 2xx answer means they arrived.

    Neither the URL's path and query nor the secret reaches a text that leaves here.
    """

    most = 100

    def __init__(
        self,
        name: str,
        url: str,
        secret: str,
        now: Callable[[], float],
        *,
        timeout: float = TIMEOUT,
    ) -> None:
        self.name = name
        self._url = SecretUrl(url)
        self._secret = secret.encode()
        self._now = now
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"Webhook({self.name})"

    def fitting(self, notes: Sequence[Note]) -> int:
        """Return how many of these go into one request."""
        return min(len(notes), self.most)

    async def send(self, notes: Sequence[Note]) -> None:
        """Hand messages over in one request; raise `TransientError` when they did not arrive.

        Raises `RefusedError` for what is answered with 4xx, but for 408, 425 and 429; any other answer
        may say when to try again (`Retry-After`, RFC 9110 §10.2.3).
        """
        body = orjson.dumps({"notes": list(notes)})
        timestamp = str(int(self._now()))
        headers = {
            "Content-Type": "application/json",
            TIMESTAMP: timestamp,
            SIGNATURE: signature(self._secret, timestamp, body),
        }
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(self._timeout))
        try:
            async with self._session.post(
                self._url.reveal(), data=body, headers=headers, allow_redirects=False
            ) as answer:
                status, wanted = answer.status, answer.headers.get("Retry-After", "")
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise TransientError(f"no answer ({reason(error)})") from None
        if 400 <= status < 500 and status not in _LATER:
            raise RefusedError(f"it answers HTTP {status}", is_final=status in _TOO_LARGE)
        if not 200 <= status < 300:
            raise LaterError(f"it answers HTTP {status}", _seconds(wanted, self._now()))

    async def close(self) -> None:
        """Let go of the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _seconds(said: str, now: float) -> float:
    """Return how long a `Retry-After` says to wait; 0 where it says nothing that can be read."""
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        at = parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    return max(at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now, 0.0)
