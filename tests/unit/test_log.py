import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given, settings, strategies as st

from keeper.log import REDACTED, configure, redact, redact_text

KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
URL = "wss://user:hunter2@rpc.example:8546/v2/s3cret-path?apikey=t0ken#frag"
SECRETS = (KEY, KEY.upper(), "hunter2", "s3cret-path", "t0ken", "user:")

Logged = Callable[[], str]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Configure JSON logs into memory, and put the process's logging back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    names = ("web3", "aiohttp", "aiohttp.access", "websockets", "urllib3", "asyncio")
    levels = {name: logging.getLogger(name).level for name in names}
    memory = io.StringIO()
    configure("debug", "json", memory)
    yield memory
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


@pytest.mark.parametrize(
    "value",
    [
        KEY,
        "0x" + KEY,
        "0X" + KEY.upper(),
        f"key={KEY}, other",
        bytes.fromhex(KEY),
        int(KEY, 16),
        [KEY, ("0x" + KEY,)],
        {"deep": {"deeper": [f"<{KEY}>"]}},
        {KEY: 1},
        {("tuple", KEY): 1},
        {KEY},
        ValueError(f"bad key {KEY}"),
        f"{KEY}\n{KEY}",
        "0x" + "00" * 12 + KEY,
        URL,
        f"cannot connect to {URL}",
        f"('{URL}', 1)",
        {"url": [URL, {"again": URL}]},
        ConnectionError(f"to {URL} failed"),
        "Authorization: Bearer t0ken",
        '{"password": "hunter2"}',
        "password=hunter2&x=1",
        "keystore_password: 'hunter2 hunter2'",
        "mnemonic is t0ken t0ken t0ken",
        {"Authorization": "Basic t0ken"},
        {"headers": [{"X-Api-Key": "t0ken"}], "api_key": "t0ken"},
        {"keystore_password": "hunter2", "mnemonic": "t0ken t0ken"},
    ],
)
def test_no_secret_survives(stream: io.StringIO, value: Any) -> None:
    structlog.get_logger("keeper").info("plan.sent", value=value)
    logging.getLogger("keeper.other").warning("stdlib says %s", value)
    logging.getLogger("keeper.other").warning("extra", extra={"value": value})
    text = stream.getvalue()
    assert text.count("\n") == 3
    for secret in SECRETS:
        assert secret not in text
    assert str(int(KEY, 16)) not in text


def test_secret_in_an_exception_is_removed_with_its_causes(stream: io.StringIO) -> None:
    try:
        try:
            int(f"key {KEY}")
        except ValueError as cause:
            raise ConnectionError(f"cannot reach {URL}") from cause
    except ConnectionError:
        structlog.get_logger().exception("node.failed")
        logging.getLogger("aiohttp").exception("from a library")
    text = stream.getvalue()
    assert text.count("ConnectionError") >= 2
    for secret in SECRETS:
        assert secret not in text


def test_secret_in_the_event_name_is_removed(stream: io.StringIO) -> None:
    structlog.get_logger().info(f"connecting to {URL} with {KEY}")
    assert json.loads(stream.getvalue())["event"] == (
        f"connecting to wss://rpc.example:8546/{REDACTED} with {REDACTED}"
    )


def test_public_hashes_and_amounts_stay(stream: io.StringIO) -> None:
    structlog.get_logger().info(
        "tx", tx="0x" + KEY, block_hash=bytes.fromhex(KEY), net=10**24, token="USDC"
    )
    line = json.loads(stream.getvalue())
    assert line["tx"] == "0x" + KEY
    assert line["block_hash"] == "0x" + KEY
    assert line["net"] == 10**24
    assert line["token"] == "USDC"
    address = "0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2"
    assert redact_text(f"pool {address}") == f"pool {address}"
    assert redact_text("see http://localhost:9464.") == "see http://localhost:9464."


def test_libraries_are_heard_from_warning_up(stream: io.StringIO) -> None:
    for name in ("web3", "aiohttp.access", "websockets"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble")
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["trouble"] * 3


def test_auto_is_json_without_a_terminal_and_console_with_one(stream: io.StringIO) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    piped, terminal = io.StringIO(), Terminal()
    configure("info", "auto", piped)
    structlog.get_logger().info("head.processed", chain="x")
    assert json.loads(piped.getvalue())["chain"] == "x"
    configure("info", "auto", terminal)
    structlog.get_logger().info("head.processed", chain="x")
    assert "head.processed" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    assert not stream.getvalue()


def test_level_filters(stream: io.StringIO) -> None:
    memory = io.StringIO()
    configure("warning", "json", memory)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert "quiet" not in memory.getvalue()
    assert "loud" in memory.getvalue()


@settings(deadline=None)
@given(
    before=st.text(st.characters(exclude_characters="0123456789abcdefABCDEF"), max_size=20),
    after=st.text(st.characters(exclude_characters="0123456789abcdefABCDEF"), max_size=20),
    key=st.binary(min_size=32, max_size=32).filter(any),
    depth=st.integers(0, 4),
)
def test_a_key_is_found_in_any_surrounding(before: str, after: str, key: bytes, depth: int) -> None:
    value: Any = before + key.hex() + after
    for _ in range(depth):
        value = {"inner": [value]}
    assert key.hex() not in str(redact(None, "info", {"value": value}))
