"""One chain's limits and breakers: made from the settings, restored, watched, and told of."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from keeper.config import Chain, Settings
from keeper.config.limits import Permitted
from keeper.engine import Report
from keeper.journal.breakers import BreakerChange
from keeper.journal.sqlite import SqliteJournal
from keeper.metrics import Metrics
from keeper.observers.observation import Event
from keeper.planning.treasury import usd_prices
from keeper.ports import Venue
from keeper.risk import Feeds, Limits, Lists, Risk
from keeper.risk.lists import find_tokens
from keeper.types import Token
from keeper.units import Address, Bps

log = structlog.get_logger(__name__)

EVERY = 1.0
"""Seconds between two looks at the breakers that no plan or receipt moves."""
_LEAST_STALE = 6.0
"""Seconds a head may always be old: its time is a whole second, and no two clocks agree."""


class BreakerWatch:
    """Write every change of a chain's breakers to log, metrics and journal; `also` hears of it, too."""

    def __init__(
        self,
        chain: str,
        journal: SqliteJournal,
        metrics: Metrics,
        also: Callable[[BreakerChange], None] = lambda _: None,
    ) -> None:
        self._chain = chain
        self._also = also
        self._journal = journal
        self._metrics = metrics
        self._records: set[asyncio.Task[None]] = set()

    def tell(self, change: BreakerChange) -> None:
        """Take one change; the journal has it soon, and surely after `flush`."""
        self._metrics.breaker(change.chain, change.name, is_open=change.is_open)
        fields = {"chain": change.chain, "breaker": change.name, "detail": change.detail}
        if change.is_open:
            log.error("breaker.opened", **fields, cause=change.cause)
        else:
            log.warning("breaker.closed", **fields, cause=change.cause)
        self._also(change)
        record = asyncio.ensure_future(self._journal.breaker(change))
        self._records.add(record)
        record.add_done_callback(self._records.discard)

    async def flush(self) -> None:
        """Return once every change told of is on disk."""
        await asyncio.gather(*self._records)

    def start(self, risk: Risk, stack: AsyncExitStack) -> None:
        """Look at the breakers as long as the stack is open, then let all changes reach the disk."""
        stack.push_async_callback(self.flush)
        watching = asyncio.create_task(self._watch(risk), name=f"{self._chain}-breakers")
        stack.callback(watching.cancel)

    async def _watch(self, risk: Risk) -> None:
        """A file, a clock or a head may move a breaker as well as a plan or a receipt does."""
        while True:
            for name, is_open in risk.breakers().items():
                self._metrics.breaker(self._chain, name, is_open=is_open)
            await asyncio.sleep(EVERY)


def make_limits(settings: Settings, block_time: int) -> Limits:
    """Return the limits of a chain with this many seconds between two blocks."""
    limits, breakers = settings.limits, settings.breakers
    return Limits(
        gas_per_transaction=limits.gas_wei_per_transaction,
        gas_per_hour=limits.gas_wei_per_hour,
        gas_per_day=limits.gas_wei_per_day,
        minimum_profit=limits.minimum_profit,
        largest_repay=limits.largest_repay,
        repay_per_hour=limits.repay_per_hour,
        repay_per_day=limits.repay_per_day,
        kill_file=Path(settings.kill_file),
        reverts=limits.stop_after_reverts,
        loss_per_day=breakers.loss_per_day,
        revert_rate=breakers.revert_bps,
        revert_rate_of=breakers.revert_rate_of,
        estimate_band=breakers.estimate_bps,
        estimate_misses=breakers.estimate_misses,
        stale_seconds=max(float(breakers.stale_head_blocks * block_time), _LEAST_STALE),
        reset_seconds=breakers.reset_seconds,
    )


def make_feeds(
    settings: Settings, chain: Chain, venues: Callable[[], Iterable[Venue]]
) -> Feeds | None:
    """Return what compares a chain's feeds with its pools; None where it is switched off."""
    own = chain.deviation_bps
    limit = settings.breakers.deviation_bps if own is None else own
    return Feeds(Bps(limit), venues) if limit else None


def watching(feeds: Feeds, risk: Risk) -> Callable[[Report | Event], None]:
    """Return an observer that gives every head's prices to the comparison, and tells of what it finds."""

    def observe(subject: Report | Event) -> None:
        if isinstance(subject, Report):
            view = subject.view
            prices = usd_prices(view.prices.values(), view.tokens.values(), view.native.address)
            feeds.observe(view.head.number, prices, view.tokens)
            risk.breakers()

    return observe


def make_lists(name: str, chain: Chain, tokens: Mapping[Address, Token]) -> Lists:
    """Return a chain's allow and deny lists; raise `ConfigError` for a token no market here has."""

    def find(key: str, permitted: Permitted) -> frozenset[Address]:
        where = f"chains.{name}.{key}.tokens"
        return find_tokens(sorted(permitted.tokens or ()), tokens, where)

    return Lists(
        allowed_tokens=None if chain.allow.tokens is None else find("allow", chain.allow),
        denied_tokens=find("deny", chain.deny),
        allowed_protocols=chain.allow.protocols,
        denied_protocols=chain.deny.protocols or frozenset(),
    )
