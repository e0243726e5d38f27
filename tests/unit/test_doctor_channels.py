"""What the doctor says of channels: it looks whether somebody is there, and sends when told to."""

import asyncio
import time
import tomllib
from functools import partial
from typing import Any

import pytest

from keeper.app.margin import try_channel
from keeper.config.notify import ChannelTable
from keeper.doctor.channels import check_channel
from keeper.doctor.check import State
from keeper.errors import ConfigError
from tests.webhook import Hook


def table(**fields: Any) -> ChannelTable:
    return ChannelTable.model_validate({"kind": "webhook", "secret": "0123456789abcdef"} | fields)


async def test_a_webhook_that_listens_is_fine_and_hears_nothing() -> None:
    heard = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        state, detail, _ = await check_channel(
            "desk", table(url=f"http://127.0.0.1:{port}/k3y-of-the-hook")
        )
        async with asyncio.timeout(5):
            while not heard:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    assert (state, detail, heard) == (State.OK, f"127.0.0.1:{port} answers", [b""])


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:1"])
async def test_a_webhook_where_nobody_listens_is_a_warning(host: str) -> None:
    state, detail, hint = await check_channel("desk", table(url=f"http://{host}/k3y"))
    assert state is State.WARN
    assert detail.startswith(f"{host} does not answer (")
    assert "k3y" not in detail
    assert hint.startswith("`keeper margin test desk` sends a message")


async def test_a_service_is_one_that_apprise_knows() -> None:
    fields = {"kind": "apprise", "secret": None}
    state, detail, _ = await check_channel("chat", table(**fields, url="json://localhost/k3y"))
    assert (state, detail) == (State.OK, "apprise knows its service")
    with pytest.raises(ConfigError, match="apprise knows no service"):
        await check_channel("chat", table(**fields, url="carrierpigeon://loft"))


@pytest.mark.parametrize(
    ("refusals", "state", "said"),
    [
        (0, State.OK, "it took a test message"),
        (1, State.FAIL, "a test message did not arrive: it answers HTTP 503"),
    ],
)
async def test_a_message_is_sent_where_that_is_asked_for(
    refusals: int, state: State, said: str
) -> None:
    with Hook() as hook:
        hook.refusals = refusals
        fields = tomllib.loads(hook.table)["notify"]["channels"]["desk"]
        attempt = partial(try_channel, now=time.time)
        found = await check_channel("desk", table(**fields), attempt)
    assert found[:2] == (state, said)
    assert [note["title"] for note in hook.notes] == ["keeper: a test"] * (1 - refusals)
