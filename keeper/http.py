"""The status server: metrics, liveness, readiness and status; nothing here changes anything."""

import asyncio
import errno
import html
from collections.abc import Callable, Mapping
from typing import Any, Self

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

from keeper.errors import ConfigError

UNHEALTHY_LAG = 10.0
"""Seconds the event loop may be late before the process counts as stuck."""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>keeper: {state}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #1b1f24; background: #fff }}
table {{ border-collapse: collapse; margin: .3rem 0 }}
th, td {{ text-align: left; padding: .2rem .9rem .2rem 0; vertical-align: top }}
th {{ font-weight: 600; color: #57606a }}
@media (prefers-color-scheme: dark) {{
body {{ color: #e6edf3; background: #0d1117 }} th {{ color: #8b949e }} }}
</style></head><body><h1>keeper: {state}</h1>{body}</body></html>
"""


class Lag:
    """Measures how late the event loop wakes; `seconds` also grows while it is stuck."""

    def __init__(self, observe: Callable[[float], None], every: float = 0.25) -> None:
        self._observe = observe
        self._every = every
        self._due: float | None = None

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._due = loop.time() + self._every
            await asyncio.sleep(self._every)
            self._observe(max(loop.time() - self._due, 0.0))

    @property
    def seconds(self) -> float:
        """Return how late the loop is now."""
        if self._due is None:
            return 0.0
        return max(asyncio.get_running_loop().time() - self._due, 0.0)


class StatusServer:
    """Serves `/metrics`, `/healthz`, `/readyz` and `/status` while entered."""

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        status: Callable[[], Mapping[str, Any]],
        ready: Callable[[], bool],
        lag: Callable[[], float],
    ) -> None:
        self._host = host
        self._port = port
        self._status = status
        self._ready = ready
        self._lag = lag
        app = web.Application()
        app.router.add_get("/", self._on_index)
        app.router.add_get("/metrics", make_aiohttp_handler(registry))
        app.router.add_get("/healthz", self._on_health)
        app.router.add_get("/readyz", self._on_ready)
        app.router.add_get("/status", self._on_status)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    @property
    def port(self) -> int:
        """Return the port in use, which differs from the one asked for when that was 0."""
        return int(self._runner.addresses[0][1]) if self._runner.addresses else self._port

    @property
    def address(self) -> str:
        """Return the URL the pages are under."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise _unusable(self._host, self._port, error) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _on_index(self, _: web.Request) -> web.Response:
        raise web.HTTPFound("/status")

    async def _on_health(self, _: web.Request) -> web.Response:
        lag = self._lag()
        alive = lag < UNHEALTHY_LAG
        return _json({"alive": alive, "loop_lag_seconds": round(lag, 4)}, 200 if alive else 503)

    async def _on_ready(self, _: web.Request) -> web.Response:
        ready = self._ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def _on_status(self, request: web.Request) -> web.Response:
        status = self._status()
        if "text/html" not in request.headers.get("Accept", ""):
            return _json(status, 200)
        state = html.escape(str(status.get("state", "unknown")))
        page = _PAGE.format(state=state, body=_table(status))
        return web.Response(
            text=page,
            content_type="text/html",
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )


def _json(body: Mapping[str, Any], code: int) -> web.Response:
    return web.Response(
        body=orjson.dumps(
            body, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        ),
        status=code,
        content_type="application/json",
    )


def _table(value: object) -> str:
    """Draw a JSON value as nested tables, every text escaped."""
    match value:
        case Mapping():
            rows = (
                f"<tr><th>{html.escape(str(key))}</th><td>{_table(below)}</td></tr>"
                for key, below in value.items()
            )
            return f"<table>{''.join(rows)}</table>" if value else "–"
        case list() | tuple() if value and all(isinstance(each, Mapping) for each in value):
            columns = list(dict.fromkeys(key for each in value for key in each))
            head = "".join(f"<th>{html.escape(str(column))}</th>" for column in columns)
            rows = (
                "".join(f"<td>{_table(each.get(column, '–'))}</td>" for column in columns)
                for each in value
            )
            body = "".join(f"<tr>{row}</tr>" for row in rows)
            return f"<table><tr>{head}</tr>{body}</table>"
        case list() | tuple():
            return ", ".join(_table(each) for each in value) or "–"
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case _:
            return html.escape(str(value))


def _unusable(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"port {port} on {host} is in use",
            "stop the other keeper, or set http.port (0 takes a free one)",
        )
    return ConfigError(f"cannot listen on {host}:{port}: {error.strerror}", "check http.host")
