"""Put one chain together: every object of the line, each with its dependencies."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from eth_utils.address import to_checksum_address

from keeper.app.breakers import BreakerWatch, make_feeds, make_limits, make_lists, watching
from keeper.app.clock import SystemClock
from keeper.app.conversion import Converter, ConvertRules
from keeper.app.endpoints import open_endpoints
from keeper.app.events import OperatorEvents
from keeper.app.inventory import open_inventory
from keeper.app.lenders import Allowed, open_lenders
from keeper.app.margin import make_caller, watching_heads
from keeper.app.oracles import believing, following, make_oracles, recall, remembering, showing
from keeper.app.progress import LoggedProgress
from keeper.app.recovery import Recovery
from keeper.app.snapshots import Snapshots
from keeper.app.treasury import HOUR, Rules, Treasury
from keeper.app.upkeep import Upkeep
from keeper.app.watched import Watched
from keeper.book.book import Book
from keeper.book.faults import Fault
from keeper.chain.fee_history import FeeHistories
from keeper.chain.listener import Count, Listener
from keeper.chain.reader import ChainReader
from keeper.chain.survey import Standing
from keeper.conditions import Conditions
from keeper.config import Chain, Settings
from keeper.engine import Engine, Fetched, Prove, read_prices
from keeper.errors import ConfigError, PluginError, TransientError
from keeper.execution.allowance import Allowance
from keeper.execution.bump import first_down
from keeper.execution.checked import CheckedSigner
from keeper.execution.executor import Executor
from keeper.execution.prove import Prover
from keeper.execution.pursuit import Policy
from keeper.execution.recheck import Look, Recheck
from keeper.execution.refreshing import at_prices
from keeper.execution.simulate import Simulator
from keeper.execution.standby import Standby
from keeper.execution.sweeping import looking
from keeper.journal.read import JournalReader
from keeper.journal.snapshots import Snapshot
from keeper.journal.sqlite import DAY, SqliteJournal
from keeper.margin.caller import MarginCaller
from keeper.metrics import Metrics
from keeper.notify.dispatcher import Dispatcher
from keeper.observers.lines import tell_log
from keeper.observers.meter import meter
from keeper.observers.observation import Event, Observation
from keeper.observers.record import record
from keeper.observers.status import ChainStatus
from keeper.planning.contest import Contest
from keeper.planning.decoding import decode_receipt_logs, decode_run
from keeper.planning.encoding import untipped
from keeper.planning.inventory import Inventory
from keeper.planning.planner import Planner
from keeper.planning.reasons import explain_reason
from keeper.planning.rules import PlanRules
from keeper.plugins import NamedStrategy
from keeper.ports import LendingProtocol, Progress, Rpc, Signer, Venue
from keeper.reconcile import Noting, Reconciler
from keeper.relays import open_relays
from keeper.risk import Lists, Risk
from keeper.risk.lists import find_tokens
from keeper.signers import Ask, open_signers
from keeper.strategist import Seat, Strategist
from keeper.types import Head, Plan, Skip, Token, View
from keeper.units import ZERO_ADDRESS, Address, Wei

log = structlog.get_logger(__name__)


DEEPEST = 32
"""Blocks under the head at which a chain's state is read at most: a node without an archive holds
128 states, and all of the state has to be read before the block's is dropped."""
DEADLINE_MS = 200
"""Milliseconds all strategies together have for one head."""
CONTESTED_PLANS = 64
"""Plans of earlier processes whose ends count in the record of bids."""
LIVENESS_BLOCKS = 3
"""Block times without a head after which the connection is doubted."""


class Unproven:
    """Pass plans on as estimated: without contract and wallet there is nothing to simulate."""

    async def prove(self, plans: Sequence[Plan], view: View) -> tuple[list[Plan], list[Skip]]:
        """Return the plans as they are."""
        del view
        return list(plans), []


@dataclass(frozen=True, slots=True)
class Process:
    """What the chains of one process share."""

    settings: Settings
    live: bool
    journal: SqliteJournal
    journal_path: Path
    metrics: Metrics
    clock: SystemClock
    dispatcher: Dispatcher
    ask: Ask | None = None
    progress: Callable[[str], Progress] = LoggedProgress
    undisturbed: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(frozen=True, slots=True)
class Line:
    """One chain, put together and standing at a head."""

    name: str
    reader: ChainReader
    book: Book
    listener: Listener[Fetched]
    strategist: Strategist
    executor: Executor
    risk: Risk
    breakers: BreakerWatch
    engine: Engine
    observation: Observation
    status: ChainStatus
    upkeep: Upkeep
    snapshots: Snapshots
    treasury: Treasury | None
    margin: MarginCaller | None
    reconciler: Reconciler


async def open_line(
    process: Process,
    name: str,
    chain: Chain,
    strategies: Sequence[NamedStrategy],
    stack: AsyncExitStack,
) -> Line:
    """Put one chain together: connect, load the state at one head, recover what was pending."""
    metrics, clock, live = process.metrics, process.clock, process.live
    connection = await open_endpoints(chain, stack, metrics.rpc)
    rpc, feed = connection.rpc, connection.feed
    reader = ChainReader(
        rpc,
        chain.multicall,
        checkpoint=process.journal.checkpoint(chain.chain_id),
        progress=process.progress(name),
    )
    watched = await Watched.discover(reader, name, chain)
    store = process.journal.snapshots
    seed = partial(random.getrandbits, 32)
    below = min(chain.final_depth, DEEPEST)
    second = ChainReader(connection.second, chain.multicall)
    recovery = Recovery(name, reader, second, watched, store, seed, below=below)
    loaded = await recovery.load()

    told = JournalReader(process.journal_path)
    events: OperatorEvents | None = None
    if process.settings.notify.events:
        repeat = 60.0 * process.settings.notify.repeat_minutes
        operators = process.settings.notify.events
        events = OperatorEvents(name, process.dispatcher, operators, told, clock, repeat)
        stack.push_async_callback(events.close)

    def on_fault_found(part: str, fault: Fault) -> None:
        upkeep.stopped(part, fault)
        if events is not None:
            events.fault(part, fault)

    book = Book(
        name,
        list(watched.markets.values()),
        list(watched.venues.values()),
        watched.native,
        on_fault_found,
    )
    snapshots = Snapshots(
        name,
        book,
        watched,
        store,
        clock,
        60.0 * process.settings.journal.snapshot_minutes,
        partial(_on_snapshot, metrics),
        partial(metrics.snapshot_failed, name),
        lambda: recovery.is_settled,
    )
    recovery.is_distrusted = lambda: snapshots.is_distrusted
    upkeep = Upkeep(
        name,
        chain,
        process.settings.audit,
        connection,
        reader,
        book,
        metrics,
        snapshots,
        lambda: planner.rules,
    )

    def on_observer_fault(error: Exception) -> None:
        status.observer_faults += 1
        log.error("observer.failed", chain=name, exc_info=error)

    observation = Observation(partial(metrics.reports_dropped, name), on_observer_fault)

    def tell(event: str, fields: Mapping[str, object]) -> None:
        observation.tell(Event(name, event, fields))

    treasury: Treasury | None = None
    signers = await open_signers(chain.lanes, f"chains.{name}", os.environ, stack, process.ask)
    signer = signers[0] if signers else None
    if live and (signer is None or chain.contract is None):
        raise ConfigError(
            f"chains.{name} has no {'wallet' if signer is None else 'contract'} to send with",
            "set it, or run dry",
        )
    breakers = BreakerWatch(
        name, process.journal, metrics, (lambda _: None) if events is None else events.breaker
    )
    lists = lists_of(name, chain, watched)
    oracles = make_oracles(
        *(name, process.settings, chain, watched.markets),
        partial(_running, watched, book),
        partial(metrics.oracle_lag, name),
        watched.unloaded,
    )
    await recall(oracles, process.journal.feeds, name)
    limits = make_limits(process.settings, chain.block_time)
    feeds = make_feeds(process.settings, chain, partial(_running, watched, book))
    risk = Risk(
        *(name, limits, clock),
        lists=lists,
        seen=lambda: book.head,
        tell=breakers.tell,
        feeds=feeds,
    )
    pending = await process.journal.pending()
    spent = await asyncio.to_thread(told.spent, clock.time() - DAY)
    risk.restore(spent, pending, await asyncio.to_thread(told.breakers))
    breakers.start(risk, stack)
    for each in signers:
        if isinstance(each, CheckedSigner):
            each.on_fault = partial(risk.trip, "signer")

    def refill() -> Wei:
        return Wei(0) if treasury is None else treasury.refill()

    allowed = await open_lenders(name, chain, watched, reader, observation, stack)
    planner = make_planner(
        name, chain, watched, process.settings, lambda: book.stopped, lists, allowed, refill
    )
    contest = Contest(chain.relays)
    contest.restore(await asyncio.to_thread(told.contested, name, CONTESTED_PLANS))
    contest.sent(signed.plan for signed in pending if signed.plan.chain == name)

    def leaving() -> set[Address]:
        sweeps = (flight.plan.sweep for flight in executor.undecided)
        return {sweep.token.address for sweep in sweeps if sweep is not None}

    inventory = await open_inventory(
        *(name, chain, lambda: watched_tokens(watched.markets.values()), leaving),
        *(reader, observation, stack),
    )
    conditions = make_conditions(name, chain, rpc, stack, contest, inventory)
    handed, ended = partial(metrics.relay_handed, name), partial(metrics.relay_ended, name)
    executor = Executor(
        name,
        chain.chain_id,
        rpc,
        signers,
        process.journal,
        risk,
        decode_receipt_logs,
        explain_reason,
        book.holds,
        clock,
        tell,
        live=live,
        lane_cap=chain.lane_cap,
        policy=Policy(
            chain.fees.replace_after,
            chain.replaces,
            chain.final_depth,
            chain.fees.max_fee,
            chain.inclusion_model,
        ),
        look=make_look(rpc, planner, signer, chain, lambda plan: at_prices(plan, conditions.view)),
        flow=open_relays(name, chain, stack, handed, ended) if live else None,
        untipped=untipped,
        lost=contest.lost,
        draft=process.journal.draft,
    )
    await executor.start()

    async def recover(reason: str) -> None:
        await recovery.rebuild(reason, book, listener.catch_up)
        upkeep.begin(restored=recovery.origin is not None)
        status.rebuilt = reason
        # A reorg that deep took blocks that nobody took back one by one.
        reconciler.verify()
        if recovery.origin is None:
            snapshots.hurry()

    reconciler = Reconciler(
        name,
        watched.markets,
        chain.contract,
        {address: alias for alias, address in chain.rivals.items()},
        rpc,
        process.journal.liquidations,
        clock,
        partial(metrics.missed, name),
        lambda: book.stopped,
    )
    stack.push_async_callback(reconciler.close)
    listener = Listener(
        name,
        rpc,
        feed,
        Noting(book, reconciler),
        partial(read_prices, book, reader, conditions=conditions),
        recover=recover,
        liveness=float(LIVENESS_BLOCKS * chain.block_time),
        count=partial(_count, metrics, name),
        trust_bloom=chain.trust_bloom,
    )
    await recovery.settle(book, loaded, listener.catch_up)
    reconciler.verify()
    upkeep.begin(restored=recovery.origin is not None)
    if recovery.origin is None:
        snapshots.hurry()

    def on_fault(error: PluginError) -> None:
        metrics.plugin_error(error.plugin)
        log.error("strategy.disabled", chain=name, strategy=error.plugin, error=str(error))

    def on_undecided(head: Head, error: Exception) -> None:
        status.undecided += 1
        fields = {"chain": name, "head": head.number, "error": str(error)}
        if isinstance(error, TransientError):
            log.warning("head.undecided", **fields)
        else:
            log.error("head.undecided", **fields, exc_info=error)

    strategist = Strategist(seats(strategies, name, watched.markets), on_fault)
    engine = Engine(
        listener,
        reader,
        book,
        strategist,
        planner,
        make_prover(name, rpc, planner, signer, chain.contract, live=live),
        executor,
        clock,
        chain.block_time,
        DEADLINE_MS,
        observation.tell,
        on_undecided,
        conditions,
        believing(oracles, on_observer_fault),
        process.undisturbed,
    )
    status = ChainStatus(
        name,
        "live" if live else "dry",
        book,
        executor,
        risk,
        clock,
        chain.block_time,
        connection.states,
        oracles.standing,
    )

    def standing(alias: str) -> tuple[bool, int | None]:
        for state in connection.states():
            if state.alias == alias:
                return state.standing is Standing.USABLE, state.lag
        return False, None

    def fuel() -> None:
        for lane in executor.lanes:
            is_low = treasury is not None and treasury.is_too_low(lane.address, lane.balance)
            shown = to_checksum_address(lane.address)
            metrics.wallet(name, shown, lane.balance, lane.pending, is_low=is_low)
        for breaker, is_open in risk.breakers().items():
            metrics.breaker(name, breaker, is_open=is_open)

    if feeds is not None:
        observation.add(watching(feeds, risk))
    observation.add(following(oracles, on_observer_fault))
    observation.add(showing(oracles, metrics, name))
    observation.add(remembering(oracles, process.journal.feeds, name))
    if live and signer is not None and chain.contract is not None:
        treasury = Treasury(
            name,
            make_rules(chain, process.settings, chain.contract, signer.address),
            reader,
            rpc,
            book,
            executor,
            clock,
            new_plan_id,
            await asyncio.to_thread(told.last_sweep, name),
            tell,
            make_converter(name, chain, process.settings, watched, book, reader, rpc, tell),
        )
        status.treasury = treasury
        observation.add(treasury.observe)
    observation.add(status.observe)
    observation.add(meter(metrics, name, book.markets, fuel))
    observation.add(record(process.journal))
    observation.add(tell_log(name))
    observation.add(upkeep.observe)
    observation.add(reconciler.observe)
    if events is not None:
        observation.add(events.observe)
    margin = make_caller(
        process.settings, name, book, reader, process.journal, process.dispatcher, clock, metrics
    )
    if margin is not None:
        await margin.open()
        observation.add(watching_heads(margin))
    metrics.endpoints(name, [endpoint.alias for endpoint in chain.endpoints], standing)
    return Line(
        name,
        reader,
        book,
        listener,
        strategist,
        executor,
        risk,
        breakers,
        engine,
        observation,
        status,
        upkeep,
        snapshots,
        treasury,
        margin,
        reconciler,
    )


def seats(
    strategies: Sequence[NamedStrategy], chain: str, markets: Mapping[str, LendingProtocol]
) -> list[Seat]:
    """Return the strategies of one chain with the markets each may see."""
    return [
        Seat(
            named.name,
            named.strategy,
            None
            if named.protocols is None
            else frozenset(
                m for m, market in markets.items() if market.protocol in named.protocols
            ),
        )
        for named in strategies
        if named.chains is None or chain in named.chains
    ]


def make_conditions(
    name: str,
    chain: Chain,
    rpc: Rpc,
    stack: AsyncExitStack,
    contest: Contest | None = None,
    inventory: Inventory | None = None,
) -> Conditions:
    """Return what bids on one chain rest on; no fee history where paying more gains no place."""

    def on_unread(error: Exception) -> None:
        log.warning("fee_history.unread", chain=name, error=str(error) or repr(error))

    if not chain.inclusion_model.orders_by_fee:
        return Conditions(chain.inclusion_model, None, contest, inventory)
    histories = FeeHistories(rpc, on_unread)
    stack.push_async_callback(histories.close)
    return Conditions(chain.inclusion_model, histories, contest, inventory)


def hubs_of(chain: Chain) -> frozenset[Address] | None:
    """Return the tokens routes may pass through, None for every one."""
    hubs = frozenset(hub for place in chain.venues.values() for hub in place.hubs)
    # Unwrapping is a step to a pool that trades the coin itself, not a choice of its own.
    return hubs | {ZERO_ADDRESS} if hubs else None


def lists_of(name: str, chain: Chain, watched: Watched) -> Lists:
    """Return a chain's allow and deny lists; raise `ConfigError` for a token no market here has."""
    try:
        return make_lists(name, chain, watched_tokens(watched.markets.values()))
    except ConfigError as error:
        if watched.unloaded:
            # What may name a token of a market to be loaded yet is not to be gone without.
            raise TransientError(f"{error}; not loaded: {dict(watched.unloaded)}") from error
        raise


def make_planner(
    name: str,
    chain: Chain,
    watched: Watched,
    settings: Settings,
    stopped: Callable[[], Container[str]],
    lists: Lists,
    allowed: Allowed,
    refill: Callable[[], Wei] = lambda: Wei(0),
) -> Planner:
    """Return the planner of one chain; `stopped` names the markets and venues not to rest on.

    What only shows or replays plans by the same `lists` and `allowed` as what sends.
    """
    rules = PlanRules(
        chain=name,
        contract=chain.contract or ZERO_ADDRESS,
        priority_fee=chain.usual_priority_fee,
        gas_cap=chain.fees.gas_cap,
        max_hops=chain.routing.max_hops,
        hubs=hubs_of(chain),
        deviation=chain.routing.pool_deviation,
        least_depth=chain.routing.least_depth,
        largest_repay=settings.limits.largest_repay,
        gas_budget=settings.limits.gas_wei_per_transaction,
        max_fee=first_down(chain.fees.max_fee),
        lanes=max(len(chain.lanes), 1),
        toxic_parts=settings.limits.toxic_parts,
        excluded=lists.refusal,
        lends=allowed.lends,
        sells=allowed.sells,
    )
    return Planner(rules, watched.venues, watched.markets, new_plan_id, stopped, refill)


def make_rules(chain: Chain, settings: Settings, contract: Address, operator: Address) -> Rules:
    """Return what the treasury of one chain goes by."""
    table = settings.treasury
    return Rules(
        contract=contract,
        multicall=chain.multicall,
        operator=operator,
        priority_fee=chain.fees.priority_fee,
        max_fee=first_down(chain.fees.max_fee),
        block_time=chain.block_time,
        sweep_above=table.sweep_above,
        sweep_seconds=table.sweep_hours * HOUR,
        gas_multiple=table.sweep_gas_multiple,
        refill_below=table.refill_below,
        refill_to=table.refill_to,
        warn_below=table.warn_below(settings.limits.gas_wei_per_transaction),
    )


def make_converter(
    name: str,
    chain: Chain,
    settings: Settings,
    watched: Watched,
    book: Book,
    reader: ChainReader,
    rpc: Rpc,
    tell: Callable[[str, Mapping[str, object]], None],
) -> Converter | None:
    """Return what sells profit for one token, None when none is named; `ConfigError` for no token.

    None too, and told, when the token may be one of a market that could not be loaded: profit is
    swept as it is until the next start.
    """
    table = settings.treasury
    if table.convert_to is None or chain.contract is None:
        return None
    tokens = watched_tokens(watched.markets.values())
    try:
        (address,) = find_tokens([table.convert_to], tokens, "treasury.convert_to")
    except ConfigError as error:
        if not watched.unloaded:
            raise
        log.warning("conversion.off", chain=name, why=str(error), not_loaded=list(watched.unloaded))
        return None
    rules = ConvertRules(
        name,
        chain.contract,
        tokens[address],
        watched.coin,
        table.slippage,
        table.sweep_gas_multiple,
    )
    return Converter(rules, reader, rpc, partial(_running, watched, book), new_plan_id, tell)


def make_prover(
    name: str,
    rpc: Rpc,
    planner: Planner,
    signer: Signer | None,
    contract: Address | None,
    *,
    live: bool,
) -> Prove:
    """Return what simulates plans; without contract and wallet estimates have to do."""
    if signer is None or contract is None:
        return Unproven()

    def note(words: str) -> None:
        log.warning("simulation.limited", chain=name, reason=words)

    prover = Prover(
        Simulator(rpc, signer.address, is_free=not live, note=note),
        decode_run,
        planner.settle,
        planner.repack,
        explain_reason,
        allowance=Allowance(rpc, planner.repack, note),
    )
    return Standby(prover, planner.without_offers)


def watched_tokens(markets: Iterable[LendingProtocol]) -> dict[Address, Token]:
    """Return every market's tokens by address."""
    return {address: token for market in markets for address, token in market.tokens().items()}


def make_look(
    rpc: Rpc,
    planner: Planner,
    signer: Signer | None,
    chain: Chain,
    refresh: Callable[[Plan], Plan],
) -> Look | None:
    """Return what simulates a sent plan again before more is offered for it."""
    if signer is None:
        return None
    # whether higher fees can be paid is asked of the wallet, where they are offered
    simulator = Simulator(rpc, signer.address, is_free=True)
    recheck = Recheck(
        simulator,
        decode_run,
        planner.settle,
        explain_reason,
        chain.block_time,
        chain.inclusion_model,
        refresh,
    )
    return looking(recheck, recheck.failing)


def new_plan_id() -> str:
    """Return a name for a plan that sorts by time: milliseconds, then chance, in hex."""
    return f"{int(time.time() * 1000):011x}{os.urandom(5).hex()}"


def _running(watched: Watched, book: Book) -> list[Venue]:
    stopped = book.stopped
    return [venue for name, venue in watched.venues.items() if f"venue/{name}" not in stopped]


def _count(metrics: Metrics, chain: str, what: Count, number: int) -> None:
    match what:
        case Count.REORGS:
            metrics.reorg(chain, number)
        case Count.RECONNECTS:
            metrics.reconnect(chain)
        case Count.BACKFILLED_BLOCKS:
            metrics.backfilled(chain, number)
        case Count.REBUILDS:
            metrics.book_rebuilt(chain)


def _on_snapshot(metrics: Metrics, made: Snapshot, seconds: float) -> None:
    metrics.snapshot(made.chain, made.time, made.size, seconds)
    log.info(
        "snapshot.written",
        chain=made.chain,
        block=made.number,
        megabytes=round(made.size / 1e6, 1),
        seconds=round(seconds, 2),
    )
