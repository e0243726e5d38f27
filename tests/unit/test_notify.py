"""Messages: posted once, delivered in order and again until they arrive, signed, without secrets."""

import asyncio
import hashlib
import hmac
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from keeper.errors import ConfigError, TransientError
from keeper.journal.outbox import OutboxReader, Posted, Posting
from keeper.journal.sqlite import SqliteJournal
from keeper.notify.channel import LaterError, RefusedError
from keeper.notify.dispatcher import KEEP, Dispatcher
from keeper.notify.note import Note, Severity
from keeper.notify.queue import GIVE_UP, LATEST, LONGEST, TRIES, pause_after, ready
from keeper.notify.quiet import Quiet
from keeper.notify.services import Services
from keeper.notify.webhook import Webhook, signature


class Clock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Recorder:
    """A channel that keeps what it was given, and refuses as often as told."""

    most = 3

    def __init__(self, name: str, refusals: int = 0, poison: frozenset[str] = frozenset()) -> None:
        self.name = name
        self.refusals = refusals
        self.poison = poison
        self.is_final = False
        self.wanted = 0.0
        self.is_asked = True
        self.tried: list[list[str]] = []
        self.sent: list[list[str]] = []
        self.arrived = asyncio.Event()

    @property
    def keys(self) -> list[str]:
        return [key for batch in self.sent for key in batch]

    async def send(self, notes: Sequence[Note]) -> None:
        if self.refusals:
            self.refusals -= 1
            if self.wanted:
                raise LaterError("it answers HTTP 429", self.wanted, is_tried=self.is_asked)
            raise TransientError("it is down")
        keys = [note.key for note in notes]
        self.tried.append(keys)
        if self.poison & set(keys):
            raise RefusedError("it answers HTTP 400", is_final=self.is_final)
        self.sent.append(keys)
        self.arrived.set()

    def fitting(self, notes: Sequence[Note]) -> int:
        return min(len(notes), self.most)

    async def close(self) -> None:
        pass

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.keys) < count:
                self.arrived.clear()
                await self.arrived.wait()


def note(key: str, subject: str = "", severity: Severity = Severity.WARNING) -> Note:
    return Note(key, 1_000.0, "test", severity, subject, f"title {key}", f"text {key}", {"n": "1"})


class Post:
    """A journal with a dispatcher on it."""

    def __init__(
        self, home: Path, *channels: Recorder, quiet: Mapping[str, Quiet] = MappingProxyType({})
    ) -> None:
        self.clock = Clock()
        self.path = home / "journal.sqlite"
        self.journal = SqliteJournal(self.path, self.clock, 90, lambda _: None)
        self.channels = channels
        self.counted: Counter[tuple[str, str]] = Counter()
        outbox = self.journal.outbox
        self.dispatcher = Dispatcher(
            channels, outbox, self.clock, self._count, quiet=quiet, jitter=lambda: 0.0
        )

    def _count(self, channel: str, result: str, count: int) -> None:
        self.counted[channel, result] += count

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Dispatcher]:
        self.journal.open()
        try:
            await self.dispatcher.open()
            running = asyncio.create_task(self.dispatcher.run())
            try:
                yield self.dispatcher
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
        finally:
            await self.dispatcher.close()
            self.journal.close()


async def test_a_message_is_told_once_however_often_it_is_posted(tmp_path: Path) -> None:
    post = Post(tmp_path, Recorder("desk"), Recorder("chat"))
    desk, chat = post.channels
    async with post.running() as dispatcher:
        for _ in range(3):
            await dispatcher.post([(note("a"), ["desk", "chat"])])
        await dispatcher.post([(note("b"), ["desk"])])
        await desk.until(2)
        await chat.until(1)
    assert desk.keys == ["a", "b"]
    assert chat.keys == ["a"]
    assert post.counted == {("desk", "delivered"): 2, ("chat", "delivered"): 1}


async def test_what_was_delivered_long_ago_is_forgotten_while_it_runs(tmp_path: Path) -> None:
    post = Post(tmp_path, Recorder("desk"))
    (desk,) = post.channels
    async with post.running() as dispatcher:
        for count, days in enumerate((0, KEEP / 86_400.0 + 1, 0.5, 1), 1):
            post.clock.now += days * 86_400.0
            await dispatcher.post([(note(f"n{count}"), ["desk"])])
            await desk.until(count)
    with closing(sqlite3.connect(post.path)) as db:
        kept = [key for (key,) in db.execute("SELECT key FROM notices ORDER BY id")]
    assert kept == ["n2", "n3", "n4"]


async def test_what_a_killed_process_posted_the_next_one_delivers(tmp_path: Path) -> None:
    before = Post(tmp_path, Recorder("desk"))
    before.journal.open()
    await before.dispatcher.open()
    await before.dispatcher.post([(note(str(n)), ["desk"]) for n in range(5)])
    before.journal.close()  # nothing ran: as if it had been killed right after the write
    after = Post(tmp_path, Recorder("desk"))
    async with after.running():
        await after.channels[0].until(5)
    assert after.channels[0].keys == ["0", "1", "2", "3", "4"]
    assert [len(batch) for batch in after.channels[0].sent] == [3, 2]
    again = Post(tmp_path, Recorder("desk"))
    async with again.running():
        assert again.dispatcher.waiting("desk") == 0


async def test_a_channel_that_is_down_is_tried_again_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keeper.notify.queue.SHORTEST", 0.001)
    post = Post(tmp_path, Recorder("down", refusals=4), Recorder("up"))
    down, up = post.channels
    async with post.running() as dispatcher:
        await dispatcher.post([(note(str(n)), ["down", "up"]) for n in range(3)])
        await up.until(3)
        await down.until(3)
    assert down.keys == up.keys == ["0", "1", "2"]
    assert post.counted["down", "failed"] == 12
    assert post.counted["down", "delivered"] == 3
    assert OutboxReader(post.path).channels() == []


async def test_what_waits_for_the_morning_does_not_count_as_waiting(tmp_path: Path) -> None:
    night = {"desk": Quiet(time(22), time(7), ZoneInfo("UTC"))}
    post = Post(tmp_path, Recorder("desk"), quiet=night)
    post.journal.open()
    await post.dispatcher.post([(note("w"), ["desk"])])
    assert post.dispatcher.waiting("desk") == 0
    post.clock.now = 7 * 3_600.0
    assert post.dispatcher.waiting("desk") == 1
    await post.dispatcher.close()
    post.journal.close()


async def test_what_failed_counts_as_waiting_until_it_is_tried_again(tmp_path: Path) -> None:
    down = Recorder("down", refusals=1)
    down.wanted = LATEST
    before = Post(tmp_path, down)
    async with before.running() as dispatcher:
        await dispatcher.post([(note("a"), ["down"])])
        async with asyncio.timeout(10):
            while not OutboxReader(before.path).channels()[0].error:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert dispatcher.waiting("down") == 1
    after = Post(tmp_path, Recorder("down"))
    async with after.running() as dispatcher:
        assert dispatcher.waiting("down") == 1
    assert after.channels[0].keys == []


async def test_what_never_arrives_is_given_up_visibly(tmp_path: Path) -> None:
    post = Post(tmp_path, Recorder("down", refusals=10**9))
    async with post.running() as dispatcher:
        post.clock.now += GIVE_UP
        await dispatcher.post([(note("old"), ["down"])])
        async with asyncio.timeout(10):
            reader = OutboxReader(post.path)
            while not any(state.given_up for state in reader.channels()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        (state,) = OutboxReader(post.path).channels()
    assert (state.channel, state.waiting, state.given_up) == ("down", 0, 1)
    assert state.error == "it is down"


async def until_given_up(post: Post, count: int) -> None:
    async with asyncio.timeout(10):
        while post.counted["desk", "given_up"] < count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_what_is_refused_for_itself_holds_up_nothing_and_is_given_up(tmp_path: Path) -> None:
    desk = Recorder("desk", poison=frozenset({"1", "4"}))
    desk.is_final = True
    post = Post(tmp_path, desk)
    async with post.running() as dispatcher:
        await dispatcher.post([(note(str(n)), ["desk"]) for n in range(7)])
        await desk.until(5)
        await until_given_up(post, 2)
    (state,) = OutboxReader(post.path).channels()
    # each that arrived was handed over once, in order
    assert desk.keys == ["0", "2", "3", "5", "6"]
    assert [keys for keys in desk.tried if len(keys) == 1 and keys[0] in desk.poison] == [
        ["1"],
        ["4"],
    ]
    assert (state.waiting, state.given_up, state.error) == (0, 2, "it answers HTTP 400")
    assert state.lost == ("title 1", "title 4")


async def test_what_arrived_of_a_refused_batch_is_not_sent_again_by_the_next_process(
    tmp_path: Path,
) -> None:
    desk = Recorder("desk", poison=frozenset({"1"}))
    before = Post(tmp_path, desk)
    async with before.running() as dispatcher:
        await dispatcher.post([(note(str(n)), ["desk"]) for n in range(3)])
        await desk.until(2)
    assert desk.keys == ["0", "2"]
    again = Post(tmp_path, Recorder("desk"))
    again.clock.now += 10.0
    async with again.running():
        await again.channels[0].until(1)
    assert again.channels[0].keys == ["1"]


async def test_a_doubtful_refusal_is_tried_again_and_given_up_once_others_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keeper.notify.queue.SHORTEST", 0.0001)
    desk = Recorder("desk", poison=frozenset({"bad", "late"}))
    post = Post(tmp_path, desk)

    async def pass_time() -> None:
        while True:
            post.clock.now += 1.0
            await asyncio.sleep(0.001)

    async with post.running() as dispatcher:
        passing = asyncio.create_task(pass_time())
        # alone in the channel nothing is given up: the channel itself may be wrong
        first = [note("bad", "s"), note("next", "s"), note("other")]
        await dispatcher.post([(each, ["desk"]) for each in first])
        await desk.until(2)
        await until_given_up(post, 1)
        assert desk.tried.count(["bad"]) >= TRIES
        # what comes after it about the same waits for it only so long
        assert desk.keys == ["other", "next"]
        desk.poison = frozenset({"bad", "late", "later", "all"})
        await dispatcher.post([(note(key), ["desk"]) for key in ("late", "later", "all")])
        async with asyncio.timeout(10):
            while desk.tried.count(["late"]) < 3 * TRIES:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert post.counted["desk", "given_up"] == 1
        # the channel is mended: everything arrives
        desk.poison = frozenset()
        await desk.until(5)
        passing.cancel()
    assert sorted(desk.keys[2:]) == ["all", "late", "later"]


def test_pauses_double_up_to_the_longest() -> None:
    assert [pause_after(n, 1.0) for n in (1, 2, 3)] == [1.0, 2.0, 4.0]
    assert pause_after(60, 1.0) == LONGEST
    assert pause_after(1, 0.0) == 0.5


def posted(rows: Iterable[tuple[int, float]]) -> list[Posted]:
    return [Posted(number, Posting("c", str(number), 0.0, due, "")) for number, due in rows]


def test_no_message_overtakes_an_earlier_one_of_its_subject() -> None:
    waiting = posted([(1, 900.0), (2, 900.0), (3, 5.0), (4, 900.0)])
    subjects = {1: "a", 2: "b", 3: "a", 4: "a"}
    assert [each.id for each in ready(waiting, subjects, 10.0)] == [1, 3]
    assert [each.id for each in ready(waiting, subjects, 900.0)] == [1, 2, 3, 4]
    assert ready(waiting, subjects, 1.0) == []


@asynccontextmanager
async def served(
    statuses: list[int], more: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[tuple[str, list[tuple[bytes, str, str]]]]:
    """Serve a webhook that answers these statuses, then 200, and keep what it was given."""
    got: list[tuple[bytes, str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        headers = request.headers
        got.append((body, headers["X-Keeper-Timestamp"], headers["X-Keeper-Signature"]))
        return web.Response(status=statuses.pop(0) if statuses else 200, headers=more)

    app = web.Application()
    app.router.add_post("/{key}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/k3y-of-the-hook?token=t0ken-of-it", got
    finally:
        await runner.cleanup()


async def test_a_webhook_is_signed_over_time_and_body() -> None:
    async with served([503]) as (url, got):
        hook = Webhook("desk", url, "s3cret", lambda: 1234.9)
        try:
            with pytest.raises(TransientError, match="it answers HTTP 503"):
                await hook.send([note("a")])
            await hook.send([note("a"), note("b", severity=Severity.CRITICAL)])
        finally:
            await hook.close()
    body, timestamp, signed = got[-1]
    expected = hmac.new(b"s3cret", b"1234." + body, hashlib.sha256).hexdigest()
    assert (timestamp, signed) == ("1234", f"sha256={expected}")
    assert signed == signature(b"s3cret", "1234", body) != signature(b"other", "1234", body)
    told = json.loads(body)["notes"]
    assert [each["key"] for each in told] == ["a", "b"]
    assert told[1]["severity"] == "critical"
    assert told[0]["data"] == {"n": "1"}


@pytest.mark.parametrize(
    ("status", "is_final"), [(400, False), (404, False), (413, True), (422, False)]
)
async def test_a_webhook_tells_a_refusal_from_a_fault(status: int, is_final: bool) -> None:
    async with served([status, 408, 425, 429, 500, 302]) as (url, _):
        hook = Webhook("desk", url, "s3cret", lambda: 1234.9)
        try:
            with pytest.raises(RefusedError, match=f"it answers HTTP {status}") as caught:
                await hook.send([note("a")])
            assert caught.value.is_final is is_final
            for _ in range(5):
                with pytest.raises(TransientError):
                    await hook.send([note("a")])
        finally:
            await hook.close()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120.0),
        ("Thu, 01 Jan 1970 00:21:00 GMT", 25.1),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:21:00", 25.1),
        ("soon", 0.0),
        ("-5", 0.0),
        ("1e9", 0.0),
        ("", 0.0),
    ],
)
async def test_a_webhook_says_when_it_wants_to_be_asked_again(said: str, seconds: float) -> None:
    async with served([429, 503, 404], {"Retry-After": said}) as (url, _):
        hook = Webhook("desk", url, "s3cret", lambda: 1234.9)
        try:
            for status in (429, 503):
                with pytest.raises(TransientError, match=f"it answers HTTP {status}") as caught:
                    await hook.send([note("a")])
                wanted = caught.value.seconds if isinstance(caught.value, LaterError) else 0.0
                assert wanted == pytest.approx(seconds)
            with pytest.raises(RefusedError):
                await hook.send([note("a")])
        finally:
            await hook.close()


@pytest.mark.parametrize(("wanted", "left_alone"), [(70.0, 70.0), (10**9, LATEST), (0.1, 0.5)])
async def test_a_channel_is_left_alone_as_long_as_it_asks_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: float, left_alone: float
) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def quickly(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    desk = Recorder("desk", refusals=1)
    desk.wanted = wanted
    post = Post(tmp_path, desk)
    async with post.running() as dispatcher:
        monkeypatch.setattr("keeper.notify.queue.asyncio.sleep", quickly)
        await dispatcher.post([(note("a"), ["desk"])])
        while not slept:
            await sleep(0)
        due = OutboxReader(post.path).channels()
        post.clock.now += left_alone
        await dispatcher.post([(note("b"), ["desk"])])
        await desk.until(2)
    assert slept == [left_alone]
    assert due[0].waiting == 1
    assert desk.keys == ["a", "b"]


async def test_waiting_for_a_limit_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def quickly(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    desk = Recorder("desk", refusals=2)
    desk.wanted, desk.is_asked = 0.1, False
    post = Post(tmp_path, desk)
    async with post.running() as dispatcher:
        monkeypatch.setattr("keeper.notify.queue.asyncio.sleep", quickly)
        with capture_logs() as logs:
            await dispatcher.post([(note("a"), ["desk"])])
            for waits in (1, 2):
                while len(slept) < waits:
                    await sleep(0)
                post.clock.now += 0.1
                await dispatcher.post([(note(str(waits)), ["desk"])])
            await desk.until(3)
    # as long as it takes, and not longer each time
    assert slept == [0.1, 0.1]
    assert post.counted == {("desk", "delivered"): 3}
    assert [each for each in logs if each["log_level"] == "warning"] == []


async def test_a_service_that_asks_for_patience_is_not_asked_before() -> None:
    chat = Services("chat", "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", lambda: 1_000.0)
    server: Any = next(iter(chat._apprise))
    server.ratelimit_remaining = 0.0
    server.ratelimit_reset = datetime(1970, 1, 1, 0, 18, tzinfo=UTC).replace(tzinfo=None)
    with pytest.raises(LaterError) as caught:
        await chat.send([note("a")])
    assert caught.value.seconds == 80.0
    assert not caught.value.is_tried


def test_a_service_is_given_as_much_as_it_takes() -> None:
    hook = Services("chat", "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js")
    assert hook.fitting([note("a")] * 30) == Services.most
    long = [replace(note(str(n)), text="x" * 900) for n in range(5)]
    assert hook.fitting(long) == 2
    assert hook.fitting([replace(note("a"), text="x" * 9_000)]) == 1


async def test_an_unreachable_webhook_is_one_line_without_its_secrets() -> None:
    hook = Webhook("desk", "http://127.0.0.1:1/k3y-of-the-hook?token=t0ken-of-it", "s3cret", float)
    try:
        with pytest.raises(TransientError) as caught:
            await hook.send([note("a")])
    finally:
        await hook.close()
    assert str(caught.value) == "no answer (Connection refused)"
    assert "k3y" not in repr(hook)


async def test_a_service_gets_one_text_for_a_storm_and_its_url_stays_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    bodies = []

    async def take(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        return web.Response(status=200 if len(bodies) != 2 else 500)

    app = web.Application()
    app.router.add_post("/{key}", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        service = Services("chat", f"json://127.0.0.1:{runner.addresses[0][1]}/k3y-of-the-chat")
        await service.send([note("a"), note("b", severity=Severity.CRITICAL)])
        with pytest.raises(RefusedError, match="did not take it"):
            await service.send([note("c")])
    finally:
        await runner.cleanup()
    assert bodies[0]["title"] == "keeper: 2 messages"
    assert bodies[0]["message"] == "title a\ntext a\n\ntitle b\ntext b"
    assert bodies[0]["type"] == "failure"
    assert bodies[1]["title"] == "title c"
    # what HTTP libraries say is silenced for the whole keeper
    said = [
        each for each in caplog.records if each.name.split(".")[0] not in {"aiohttp", "urllib3"}
    ]
    assert not any("k3y-of-the-chat" in each.getMessage() for each in said)
    assert "k3y" not in repr(service)


def test_a_url_that_no_service_knows_is_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        Services("chat", "carrierpigeon://loft")
    assert str(caught.value).startswith("notify.channels.chat: apprise knows no service")
    assert "loft" not in str(caught.value)


def test_a_note_reads_back() -> None:
    told = note("k", "position", Severity.CRITICAL)
    assert Note.read(told.record()) == told
