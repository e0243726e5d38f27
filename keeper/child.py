"""A program of the operator's own that answers JSON lines: deadlines, faults, and starting it again.

Whoever asks blocks until the answer or the deadline, so it is asked from a strategy's own thread,
never from the event loop.
"""

import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NoReturn

import structlog

from keeper.errors import TransientError

log = structlog.get_logger(__name__)

START_SECONDS: Final = 20.0
"""Longest a program may take from its start to its first answer."""
MISSES: Final = 5
"""Requests in a row without an answer after which it counts as hung."""
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 60.0
"""Seconds before it is started again; they double with every fault."""
WELL_SECONDS: Final = 60.0
"""After so long without a fault the next one is told of again, and waited out from the start."""
LONGEST_LINE: Final = 16 * 2**20
PASSED_ON: Final = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "TMPDIR", "TZ")
"""All of the environment that a program is given unasked: passwords and endpoints stand there too."""


class Child:
    """One running program, asked one thing at a time.

    It reads requests and writes answers, one JSON object a line, each with the `id` of its request;
    the first is the handshake (`hello`), whose answer has to hold the same `api`. An answer to an
    earlier request is dropped. What it writes to stderr is read, and quoted when it fails. Of the
    environment it gets `PASSED_ON` and what `environment` names; `told` goes into the handshake.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        api: int,
        chain: str,
        environment: Sequence[str] = (),
        *,
        told: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: float = FIRST_PAUSE,
        misses: int = MISSES,
    ) -> None:
        self.name = name
        self.ready: Mapping[str, Any] = {}
        self._command = list(command)
        self._hello = {**_greeting(api, chain), **(told or {})}
        held = os.environ if environ is None else environ
        self._environment = {n: held[n] for n in (*PASSED_ON, *environment) if n in held}
        self._clock = clock
        self._first_pause = self._pause = pause
        self._lock = threading.Lock()
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        self._misses = 0
        self._most_misses = misses
        self._again = -1.0
        self._well_since = 0.0
        self._is_told = False
        self._is_ready = False
        self._why = ""
        self._in, self._out, self._said = bytearray(), bytearray(), bytearray()

    @property
    def why(self) -> str:
        """Return what it last failed of."""
        return self._why

    @property
    def pid(self) -> int | None:
        """Return the running process."""
        return None if self._process is None else self._process.pid

    def ask(
        self, content: Mapping[str, Any], seconds: float, told: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        """Return the answer to a request; raise `TransientError` when there is none in time.

        `told` are fields of the request that are JSON already.
        """
        until = self._clock() + seconds
        with self._lock:
            if not self._is_open(until):
                raise TransientError(self._why or "it is starting")
            if self._out:
                self._miss("it does not read")
            number = self._send({**content, "deadline_ms": int(seconds * 1000)}, told or {})
            answer = self._receive(number, until)
            if answer is None:
                self._miss(f"no answer within {seconds * 1000:.0f} ms")
            self._misses = 0
            if self._is_told and self._clock() - self._well_since > WELL_SECONDS:
                self._is_told, self._pause = False, self._first_pause
            return answer

    def open(self, seconds: float = START_SECONDS) -> bool:
        """Start it and wait for its handshake; say whether it is ready (`why` says why not)."""
        with self._lock:
            return self._is_open(self._clock() + seconds)

    def refuse(self, why: str) -> NoReturn:
        """End it for an answer that makes no sense; raise `TransientError`."""
        with self._lock:
            self._fail(why)

    def close(self) -> None:
        """End it for good; whoever waits for its answer gets none."""
        self._closed = True
        self._kill()
        if self._lock.acquire(timeout=1.0):
            self._reap()
            self._lock.release()

    def _is_open(self, until: float) -> bool:
        if self._closed:
            self._why = "it was closed"
            return False
        if self._process is None and not self._start():
            return False
        if self._is_ready:
            return True
        try:
            answer = self._receive(1, until)
            if answer is None:
                if self._clock() - self._well_since > START_SECONDS:
                    self._fail(f"no handshake within {START_SECONDS:.0f} s")
                return False
            if answer.get("api") != self._hello["api"]:
                self._fail(f"it speaks API {answer.get('api')!r}, not {self._hello['api']}")
        except TransientError:
            return False
        self.ready = answer
        self._is_ready = True
        return True

    def _start(self) -> bool:
        if self._clock() < self._again:
            return False
        self._why = ""
        self._number = self._misses = 0
        self._is_ready = False
        self._in, self._out, self._said = bytearray(), bytearray(), bytearray()
        self._well_since = self._clock()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the operator's own program
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=self._environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            with suppress(TransientError):
                self._fail(f"it cannot be started: {error}")
            return False
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self._send(self._hello, {})
        return True

    def _send(self, content: Mapping[str, Any], told: Mapping[str, str]) -> int:
        self._number += 1
        text = json.dumps({"id": self._number, **content}, separators=(",", ":"))
        more = "".join(f",{json.dumps(name)}:{each}" for name, each in told.items())
        self._out += f"{text[:-1]}{more}}}\n".encode()
        return self._number

    def _receive(self, number: int, until: float) -> Mapping[str, Any] | None:
        """Return the answer to a request, None when the time is up; writes what is left to write."""
        while True:
            answer = self._answer(number)
            if answer is not None:
                return answer
            left = until - self._clock()
            if left <= 0:
                return None
            self._pump(left)

    def _pump(self, seconds: float) -> None:
        assert self._process is not None
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        poll = select.poll()
        poll.register(process.stdout.fileno(), select.POLLIN)
        if not process.stderr.closed:
            poll.register(process.stderr.fileno(), select.POLLIN)
        if self._out:
            poll.register(process.stdin.fileno(), select.POLLOUT)
        found = dict(poll.poll(max(seconds * 1000, 1)))
        if not process.stderr.closed and process.stderr.fileno() in found:
            self._hear(process)
        if self._out and process.stdin.fileno() in found:
            try:
                del self._out[: os.write(process.stdin.fileno(), self._out)]
            except BlockingIOError:
                pass
            except OSError:
                self._end(process)
        if process.stdout.fileno() in found:
            some = os.read(process.stdout.fileno(), 2**20)
            if not some:
                self._end(process)
            self._in += some
            if len(self._in) > LONGEST_LINE:
                self._fail("it wrote more than a line may hold")

    def _answer(self, number: int) -> Mapping[str, Any] | None:
        while (end := self._in.find(b"\n")) >= 0:
            line = bytes(self._in[:end])
            del self._in[: end + 1]
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            given = message.get("id") if isinstance(message, dict) else None
            if type(given) is not int or not 0 < given <= number:
                self._fail(f"it wrote what is no answer: {line[:80].decode(errors='replace')!r}")
            if given == number:
                assert isinstance(message, dict)
                return message
        return None

    def _hear(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        some = os.read(process.stderr.fileno(), 2**16)
        if not some:
            process.stderr.close()
        self._said = (self._said + some)[-4096:]

    def _end(self, process: subprocess.Popen[bytes]) -> NoReturn:
        """Tell of a program that went away, in its own last words."""
        if process.stderr is not None and not process.stderr.closed:
            with suppress(BlockingIOError):
                self._hear(process)
        code: int | None = None
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(0.2)
        words = self._said.decode(errors="replace").split("\n")
        last = next((each.strip() for each in reversed(words) if each.strip()), "")
        how = "it closed its output" if code is None else f"it ended with exit code {code}"
        self._fail(how + (f": {last[:200]}" if last else ""))

    def _miss(self, why: str) -> NoReturn:
        self._misses += 1
        if self._misses >= self._most_misses:
            self._fail(f"{why}, {self._misses} times in a row")
        raise TransientError(why)

    def _fail(self, why: str) -> NoReturn:
        """End the program and let it pause; tell of the first of many faults. Always raises."""
        self._reap()
        self._why = why
        if self._closed:
            raise TransientError("it was closed")
        if self._clock() - self._well_since > WELL_SECONDS:
            self._is_told, self._pause = False, self._first_pause
        self._again = self._clock() + self._pause
        if not self._is_told:
            log.warning(
                "strategy.child_failed",
                strategy=self.name,
                why=why,
                retry_seconds=round(self._pause, 1),
            )
        self._is_told = True
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        raise TransientError(why)

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def _reap(self) -> None:
        process = self._process
        if process is None:
            return
        self._kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        self._process = None
        self._is_ready = False


def _greeting(api: int, chain: str) -> dict[str, Any]:
    try:
        installed = version("keeper")
    except PackageNotFoundError:
        installed = "0"
    return {"type": "hello", "api": api, "keeper": installed, "chain": chain}
