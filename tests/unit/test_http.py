import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from keeper.config import Http
from keeper.doctor import State
from keeper.doctor.process import check_port
from keeper.errors import ConfigError
from keeper.http import Lag, StatusServer

STATUS: Mapping[str, Any] = {
    "state": "ok",
    "chains": {"<x>": {"head": 7, "wallet": None, "breakers": []}},
    "receipts": [{"plan": "a", "ok": True}, {"plan": "<script>alert(1)</script>"}],
}


def server(
    *,
    port: int = 0,
    ready: bool = True,
    lag: float = 0.0,
    registry: CollectorRegistry | None = None,
) -> StatusServer:
    return StatusServer(
        "127.0.0.1",
        port,
        registry or CollectorRegistry(),
        lambda: STATUS,
        lambda: ready,
        lambda: lag,
    )


async def get(url: str, **headers: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, answer.content_type, await answer.text()


async def test_metrics_carry_exemplars_when_asked_for() -> None:
    registry = CollectorRegistry()
    Counter("keeper_x_total", "x", registry=registry).inc(1, {"tx": "0xab"})
    async with server(registry=registry) as running:
        _, kind, text = await get(running.address + "/metrics")
        assert (kind, "keeper_x_total 1.0" in text) == ("text/plain", True)
        _, kind, text = await get(
            running.address + "/metrics", Accept="application/openmetrics-text; version=1.0.0"
        )
        assert kind == "application/openmetrics-text"
        assert '# {tx="0xab"}' in text


async def test_health_tells_a_stuck_loop_and_ready_an_unready_keeper() -> None:
    async with server() as running:
        assert (await get(running.address + "/healthz"))[0] == 200
        assert (await get(running.address + "/readyz"))[0] == 200
    async with server(ready=False, lag=11.0) as running:
        assert (await get(running.address + "/healthz"))[0] == 503
        assert (await get(running.address + "/readyz"))[0] == 503


async def test_status_is_json_or_a_page_without_scripts() -> None:
    async with server() as running:
        code, kind, text = await get(running.address + "/status")
        assert (code, kind) == (200, "application/json")
        assert '"head": 7' in text
        code, kind, text = await get(running.address + "/status", Accept="text/html,*/*")
        assert (code, kind) == (200, "text/html")
        assert "<h1>keeper: ok</h1>" in text
        assert "<script" not in text
        assert "&lt;script&gt;" in text
        assert "&lt;x&gt;" in text
        assert await get(running.address + "/", Accept="text/html") == (code, kind, text)


async def test_nothing_can_be_changed() -> None:
    async with server() as running, aiohttp.ClientSession() as session:
        for path in ("/", "/metrics", "/healthz", "/readyz", "/status"):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                async with session.request(method, running.address + path) as answer:
                    assert answer.status == 405


async def test_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            async with server(port=port):
                pass
    assert str(caught.value).startswith(f"port {port} on 127.0.0.1 is in use → ")
    assert "\n" not in str(caught.value)


async def test_host_that_is_not_ours_is_one_line() -> None:
    elsewhere = StatusServer(
        "192.0.2.1", 0, CollectorRegistry(), lambda: STATUS, lambda: True, lambda: 0.0
    )
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0"):
        async with elsewhere:
            pass


async def test_lag_is_measured_and_grows_while_the_loop_is_stuck() -> None:
    seen: asyncio.Queue[float] = asyncio.Queue()
    lag = Lag(seen.put_nowait, every=0.0)
    assert lag.seconds == 0.0
    task = asyncio.create_task(lag.run())
    assert await seen.get() >= 0.0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lag.seconds > 0.0


async def test_doctor_lets_a_running_keeper_have_its_port() -> None:
    async with server() as running:
        taken = Http(port=running.port)
        assert (await check_port(taken, beside=True))[0] is State.OK
        with pytest.raises(ConfigError, match="is in use"):
            await check_port(taken)
    async with server(lag=11.0) as stuck:
        assert (await check_port(Http(port=stuck.port), beside=True))[0] is State.WARN


async def test_doctor_does_not_take_another_server_for_a_keeper() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = int(other.sockets[0].getsockname()[1])
        with pytest.raises(ConfigError, match="is in use"):
            await check_port(Http(port=port), beside=True)
