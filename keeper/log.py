"""Structured logs: for people on a terminal, JSON lines elsewhere, and never a secret in either.

The last processor before the renderer removes secrets, so that no author has to remember to.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from io import TextIOBase
from typing import Any, TextIO

import structlog

from keeper.errors import KeeperError

REDACTED = "***"
HASHES = frozenset(
    {
        "block_hash",
        "by",
        "hash",
        "head_hash",
        "parent",
        "topic",
        "tx",
        "tx_hash",
    }
)
"""Keys whose 32 bytes are public; a number of that size under any other key may be a private key."""
_SECRET_KEY = re.compile(
    r"authorization|cookie|credential|mnemonic|passphrase|passwd|password|private[_-]?key|secret"
    r"|seed[_-]?phrase|api[_-]?key|(?:access|auth)[_-]?token|bearer|signature",
    re.IGNORECASE,
)
_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*)://([^\s\"'<>]+)")
_AUTHORITY = re.compile(r"^(?:[^/?#]*@)?([^/?#@]*)")
_HEX64 = re.compile(r"(?<![0-9a-fA-F])(?:0[xX])?[0-9a-fA-F]{64}(?![0-9a-fA-F])")
_HEX_LONG = re.compile(r"(?<![0-9a-zA-Z])0[xX][0-9a-fA-F]{65,}")
_NUMBER = re.compile(r"(?<!\d)\d{60,78}(?!\d)")
_PHRASE = re.compile(r"(?i)\b([\w-]*(?:mnemonic|seed[_ -]?phrase))(\W{1,4}).*")
_ASSIGNED = re.compile(
    r"(?i)([\w-]*(?:authorization|signature|password|passphrase|passwd|secret|private[_ -]?key"
    r"|api[_-]?key|access[_-]?token))([\"']?\s*[:=]\s*)(?:(?:bearer|basic|token)\s+)?"
    r"(\"[^\"]*\"|'[^']*'|[^\s,;\"'}&]+)"
)
_NOISY = ("web3", "aiohttp", "aiohttp.access", "websockets", "urllib3", "asyncio")

Event = MutableMapping[str, Any]


def configure(level: str, form: str, stream: TextIO | TextIOBase | None = None) -> None:
    """Send every log of the process to one stream, stderr unless named; `form` as in `[log]`."""
    stream = sys.stderr if stream is None else stream
    console = form == "console" or (form == "auto" and stream.isatty())
    shared: list[Callable[..., Any]] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Callable[..., Any] = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=20)
        if console
        else structlog.processors.JSONRenderer(default=str)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def redact(_: object, __: str, event: Event) -> Event:
    """Remove secrets from every value of an event, nested ones included."""
    return {key: _clean(key, value) for key, value in event.items()}


def redact_text(text: str, *, keep_hashes: bool = False) -> str:
    """Remove keys, credentials and everything of a URL but scheme and host from a text."""
    text = _URL.sub(_host_only, text)
    text = _PHRASE.sub(rf"\1\2{REDACTED}", text)
    text = _ASSIGNED.sub(rf"\1\2{REDACTED}", text)
    if keep_hashes:
        return text
    return _NUMBER.sub(REDACTED, _HEX_LONG.sub(REDACTED, _HEX64.sub(REDACTED, text)))


def _host_only(match: re.Match[str]) -> str:
    authority = _AUTHORITY.match(match[2])
    host = authority[1] if authority else ""
    rest = match[2][authority.end() :] if authority else match[2]
    return f"{match[1]}://{host}{'/' + REDACTED if rest.strip('/,.;:)') else ''}"


def _clean(key: str, value: Any) -> Any:
    if _SECRET_KEY.search(key):
        return REDACTED
    match value:
        case bool() | None | float():
            return value
        case int():
            return value if value.bit_length() <= 192 or key in HASHES else REDACTED
        case str():
            return redact_text(value, keep_hashes=key in HASHES)
        case bytes() | bytearray():
            text = "0x" + bytes(value).hex()
            return text if key in HASHES else redact_text(text)
        case Mapping():
            return {_name(each): _clean(_name(each), below) for each, below in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean(key, each) for each in value]
        case BaseException():
            return redact_text(_described(value))
        case logging.LogRecord():
            return value
        case _:
            return redact_text(str(value), keep_hashes=key in HASHES)


def _name(key: object) -> str:
    return redact_text(key if isinstance(key, str) else repr(key))


def _described(error: BaseException) -> str:
    text = str(error)
    return text if isinstance(error, KeeperError) and text else f"{type(error).__name__}: {text}"
