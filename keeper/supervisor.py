"""Start and stop: work goes on until a signal, then what was begun is finished."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping

import structlog

log = structlog.get_logger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def supervise(
    work: Callable[[], Awaitable[None]],
    drain: Callable[[], Awaitable[None]],
    *,
    stop: asyncio.Event | None = None,
    signals: Mapping[signal.Signals, Callable[[], object]] | None = None,
) -> int:
    """Run `work` until SIGTERM, SIGINT or `stop`, then `drain`; a second signal ends draining.

    `signals` are others, and what is called when one arrives.
    Returns 0 after a signal. An error of the work is raised once draining is done: whatever was
    sent is followed even when the rest broke.
    """
    loop = asyncio.get_running_loop()
    stop, hurry = stop or asyncio.Event(), asyncio.Event()
    others = dict(signals or {})

    def on_signal(number: int) -> None:
        log.info("keeper.stopping", signal=signal.Signals(number).name)
        (hurry if stop.is_set() else stop).set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    for number, act in others.items():
        loop.add_signal_handler(number, act)
    try:
        working = asyncio.ensure_future(work())
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        (outcome,) = await asyncio.gather(working, return_exceptions=True)
        stop.set()
        undrained = await _until(drain(), hurry)
    finally:
        for number in (*STOP_SIGNALS, *others):
            loop.remove_signal_handler(number)
    if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
        raise _only(outcome)
    if undrained is not None:
        raise undrained
    return 0


def _only(error: BaseException) -> BaseException:
    """Return the one error a group of tasks ended with; the group when there were several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _until(work: Awaitable[None], event: asyncio.Event) -> Exception | None:
    """Wait for work or an event, whichever is first; return what the work failed with."""
    draining = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait({draining, waiting}, return_when=asyncio.FIRST_COMPLETED)
    for task in (draining, waiting):
        task.cancel()
    done, _ = await asyncio.gather(draining, waiting, return_exceptions=True)
    return done if isinstance(done, Exception) else None
