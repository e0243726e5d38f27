"""Restarts and reorgs on the real contracts: the same book, without reading the chain again."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.app.recovery import Recovery
from keeper.app.scan import scan
from keeper.app.watched import Watched
from keeper.book.widen import Widener
from keeper.chain.endpoint import Endpoint
from keeper.chain.listener import Listener
from keeper.cli.demo.stage import Stage, staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import deploy_operator, write_settings
from keeper.journal.read import JournalReader
from keeper.journal.snapshots import SnapshotReader
from keeper.protocols.aave_v3 import deployment
from keeper.units import WAD, Address
from tests.line import Play, assert_clean

Events = Sequence[MutableMapping[str, Any]]


class Requests:
    """Every request to the node, by method and parameters."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Sequence[Any]]] = []

    @property
    def oldest_range(self) -> int:
        """Return the lowest block whose logs were asked for by number."""
        asked = [params[0] for method, params in self.made if method == "eth_getLogs"]
        return min((int(q["fromBlock"], 16) for q in asked if "fromBlock" in q), default=2**63)


@contextmanager
def recorded() -> Iterator[Requests]:
    """Record what every endpoint is asked."""
    requests, original = Requests(), Endpoint.request

    async def request(self: Endpoint, method: str, params: Sequence[object]) -> Any:
        requests.made.append((method, params))
        return await original(self, method, params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Endpoint, "request", request)
        yield requests


def named(events: Events, event: str) -> list[MutableMapping[str, Any]]:
    return [each for each in events if each["event"] == event]


def config(net: Devnet, home: Path, **settings: Any) -> Any:
    return load([write_settings(net, deploy_operator(net), home, **settings)]).settings


async def busy(stage: Stage, net: Devnet, seed: int) -> list[bytes]:
    """Change positions, prices and pools, settled; return the new borrowers."""
    crowd: list[bytes] = await stage.step(lambda: net.borrowers(3, health=(1.02, 1.05), seed=seed))
    await stage.step(lambda: net.set_price("WBTC", net.price("WBTC") * 999 // 1_000))
    return crowd


async def audit(stage: Stage) -> list[Any]:
    return await stage.line.book.audit(stage.line.reader, sample=10_000, seed=1)


async def test_a_restart_goes_on_from_the_snapshot(net: Devnet, tmp_path: Path) -> None:
    crowd = net.borrowers(5, health=(1.02, 1.05), seed=1)
    settings = config(net, tmp_path)
    async with staged(net, settings, live=True) as stage:
        crowd += await busy(stage, net, 2)
        await stage.line.snapshots.take()
        taken = stage.line.book.head
        await stage.mine(2)
    assert taken is not None
    crowd += await asyncio.to_thread(partial(net.borrowers, 3, health=(1.02, 1.05), seed=3))
    await asyncio.to_thread(net.set_price, "WBTC", net.price("WBTC") * 998 // 1_000)
    with recorded() as requests, capture_logs() as events:
        async with staged(net, settings, live=True) as stage:
            assert named(events, "snapshot.restored")[0]["block"] == taken.number
            assert not named(events, "book.loading")
            assert requests.oldest_range > taken.number
            assert await audit(stage) == []
            play = Play(stage)
            await stage.step(lambda: net.set_price("WETH", net.price("WETH") * 92 // 100))
            assert play.under(crowd) == set(crowd)
            await stage.mine(2)
            play.assert_taken(crowd)
            assert_clean(play.tally)
            assert await audit(stage) == []


async def test_a_stop_writes_the_book_down(net: Devnet, tmp_path: Path) -> None:
    net.borrowers(2, seed=1)
    settings = config(net, tmp_path)
    async with staged(net, settings, live=True) as stage:
        await busy(stage, net, 2)
        await stage.keeper.drain()
        stopped = stage.line.book.head
    assert stopped is not None
    with capture_logs() as events:
        async with staged(net, settings, live=True) as stage:
            (restored,) = named(events, "snapshot.restored")
            assert (restored["block"], restored["blocks_behind"]) == (stopped.number, 0)
            assert await audit(stage) == []


async def test_a_start_reads_the_journal_beside_the_event_loop(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(net, tmp_path)
    threads: list[threading.Thread] = []
    opened = JournalReader.open

    def watched(self: JournalReader) -> sqlite3.Connection:
        threads.append(threading.current_thread())
        return opened(self)

    monkeypatch.setattr(JournalReader, "open", watched)
    async with staged(net, settings, live=True):
        assert len(threads) >= 4
        assert threading.main_thread() not in threads


async def test_a_scan_starts_from_the_snapshot_of_a_keeper_and_leaves_it(
    net: Devnet, tmp_path: Path
) -> None:
    net.borrowers(3, health=(1.02, 1.05), seed=1)
    settings = config(net, tmp_path)
    async with staged(net, settings, live=True) as stage:
        await busy(stage, net, 2)
        await stage.keeper.drain()
        stopped = stage.line.book.head
    assert stopped is not None
    await asyncio.to_thread(partial(net.borrowers, 3, health=(1.02, 1.05), seed=3))
    (chain,) = settings.chains
    kept = SnapshotReader(settings.journal_file)
    before = await kept.found(chain)
    with recorded() as requests, capture_logs() as events:
        rows = await scan(settings, chain, 2 * WAD, 100)
        assert named(events, "snapshot.restored")[0]["block"] == stopped.number
        assert requests.oldest_range > stopped.number
    assert await kept.found(chain) == before
    settings.journal_file.unlink()
    with capture_logs() as events:
        assert await scan(settings, chain, 2 * WAD, 100) == rows
        assert named(events, "book.loading")
    assert len(rows) >= 9
    assert not settings.journal_file.exists()


async def test_a_scan_widens_venues_to_what_was_listed_since_the_snapshot(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net.borrowers(4, kind="five", health=(1.02, 1.05), seed=1)
    settings = config(net, tmp_path)
    build, dai = Watched._build, Address(net.tokens["DAI"].address)

    def before(self: Watched, places: Any) -> Any:
        built = build(self, places)
        for venue in built.values():
            venue.tokens -= {dai}  # type: ignore[attr-defined]
        return built

    with monkeypatch.context() as earlier:
        earlier.setattr(Watched, "_build", before)
        earlier.setattr(Widener, "look", lambda _: None)
        async with staged(net, settings, live=False) as stage:
            await stage.line.snapshots.take()
            assert not list(stage.line.book.sources["venue/uniswap"].hops(dai))  # type: ignore[attr-defined]
    net.set_price("WETH", net.price("WETH") * 92 // 100)
    with capture_logs() as events:
        rows = await scan(settings, next(iter(settings.chains)), 2 * WAD, 100)
    assert named(events, "snapshot.restored")
    settings.journal_file.unlink()
    assert await scan(settings, next(iter(settings.chains)), 2 * WAD, 100) == rows
    assert any(row.net_usd is not None for row in rows)


async def test_a_snapshot_reorganised_out_is_passed_over(net: Devnet, tmp_path: Path) -> None:
    net.borrowers(2, seed=1)
    settings = config(net, tmp_path)
    async with staged(net, settings, live=True) as stage:
        await stage.line.snapshots.take()
        first = stage.line.book.head
        await stage.mine()
        fork = await asyncio.to_thread(net.snapshot)
        await busy(stage, net, 2)
        await stage.line.snapshots.take()
        second = stage.line.book.head
    assert first is not None
    assert second is not None
    await asyncio.to_thread(net.revert, fork)
    await asyncio.to_thread(partial(net.borrowers, 2, seed=9))
    await asyncio.to_thread(net.mine, second.number)
    with capture_logs() as events:
        async with staged(net, settings, live=True) as stage:
            (passed,) = named(events, "snapshot.passed_over")
            assert passed["block"] == second.number
            assert passed["reason"] == "its block is no longer on the chain"
            assert named(events, "snapshot.restored")[0]["block"] == first.number
            assert await audit(stage) == []


DAMAGE = "UPDATE snapshot_pages SET data = zeroblob(length(data)) WHERE source = 'market/aave'"


async def test_a_damaged_snapshot_is_never_used(net: Devnet, tmp_path: Path) -> None:
    net.borrowers(2, seed=1)
    settings = config(net, tmp_path)
    async with staged(net, settings, live=True) as stage:
        await stage.line.snapshots.take()
        await stage.mine()
    with closing(sqlite3.connect(settings.journal_file)) as db, db:
        assert db.execute(DAMAGE).rowcount > 0
    with capture_logs() as events:
        async with staged(net, settings, live=True) as stage:
            (refused,) = named(events, "snapshot.refused")
            assert "is damaged" in refused["reason"]
            assert named(events, "book.loading")
            assert not named(events, "snapshot.restored")
            assert await audit(stage) == []
            kept = await stage.line.snapshots._store.found(stage.line.name)
            assert refused["block"] not in {each.number for each in kept}


async def test_a_snapshot_that_differs_from_the_chain_is_not_gone_live_on(
    net: Devnet, tmp_path: Path
) -> None:
    net.borrowers(2, seed=1)
    settings = config(net, tmp_path)
    async with staged(net, settings, live=True) as stage:
        await stage.mine()
        pool = next(iter(stage.line.book.sources["venue/uniswap"].pools.values()))  # type: ignore[attr-defined]
        pool.at = pool.at._replace(liquidity=pool.at.liquidity + 1)
        await stage.line.snapshots.take()
        pool.at = pool.at._replace(liquidity=pool.at.liquidity - 1)
        await stage.mine()
    with capture_logs() as events:
        async with staged(net, settings, live=True) as stage:
            (refused,) = named(events, "snapshot.refused")
            assert "liquidity" in refused["reason"]
            assert named(events, "snapshot.restored")[-1]["block"] < refused["block"]
            assert await audit(stage) == []


async def test_another_configuration_reads_the_chain(net: Devnet, tmp_path: Path) -> None:
    net.borrowers(2, seed=1)
    async with staged(net, config(net, tmp_path), live=True) as stage:
        await stage.line.snapshots.take()
    other = net.deploy_market()
    changed = config(net, tmp_path, markets={"aave": net.market, "other": other})
    with capture_logs() as events:
        async with staged(net, changed, live=True) as stage:
            (passed,) = named(events, "snapshot.passed_over")
            assert passed["reason"] == "it is of another configuration"
            assert await audit(stage) == []


async def test_an_old_snapshot_is_passed_over(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(net, tmp_path)
    async with staged(net, settings, live=True) as stage:
        await stage.line.snapshots.take()
    await asyncio.to_thread(net.mine, 10)
    monkeypatch.setattr("keeper.app.line.Recovery", partial(Recovery, furthest=9))
    with capture_logs() as events:
        async with staged(net, settings, live=True):
            (passed,) = named(events, "snapshot.passed_over")
            assert passed["reason"] == "it is 10 blocks behind"


@pytest.mark.parametrize("origin", ["snapshot", "chain"])
async def test_a_reorg_too_deep_to_undo_is_survived(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    monkeypatch.setattr("keeper.app.line.Listener", partial(Listener, memory=4))
    crowd = net.borrowers(3, health=(1.02, 1.05), seed=1)
    settings = config(net, tmp_path)
    with capture_logs() as events:
        async with staged(net, settings, live=True) as stage:
            await stage.line.snapshots.take()
            await stage.mine()
            fork = await asyncio.to_thread(net.snapshot)
            await busy(stage, net, 2)
            await stage.mine(8)
            if origin == "chain":
                for each in await stage.line.snapshots._store.found(stage.line.name):
                    await stage.line.snapshots._store.discard(each)
            orphaned = stage.line.book.head
            assert orphaned is not None

            def other_branch() -> None:
                net.revert(fork)
                net.borrowers(2, health=(1.02, 1.05), seed=7)
                net.mine(orphaned.number + 5 - net.chain.block_number())

            await stage.step(other_branch)
            (rebuilt,) = named(events, "book.rebuilt")
            assert rebuilt["origin"].startswith(origin)
            assert "reorganised below" in rebuilt["reason"]
            assert not stage.line.book.holds(orphaned)
            assert stage.line.status.as_json()["rebuilt"] == rebuilt["reason"]
            registry = stage.keeper.metrics.registry
            labels = {"chain": stage.line.name}
            assert registry.get_sample_value("keeper_book_rebuilds_total", labels) == 1
            assert await audit(stage) == []
            play = Play(stage)
            await stage.step(lambda: net.set_price("WETH", net.price("WETH") * 92 // 100))
            await stage.mine(2)
            play.count()
            assert set(crowd) <= play.tally.liquidated
            assert await audit(stage) == []


async def test_a_reorg_right_after_a_load_from_the_chain_is_undone(
    net: Devnet, tmp_path: Path
) -> None:
    net.borrowers(3, health=(1.02, 1.05), seed=1)
    settings = config(net, tmp_path)
    net.mine(20)
    fork = net.snapshot()
    net.borrowers(2, health=(1.02, 1.05), seed=2)
    with capture_logs() as events:
        async with staged(net, settings, live=True) as stage:
            assert named(events, "book.loading")
            assert not named(events, "bootstrap.at_newest")
            orphaned = stage.line.book.head
            assert orphaned is not None

            def other_branch() -> None:
                net.revert(fork)
                net.borrowers(1, health=(1.02, 1.05), seed=7)
                net.mine(orphaned.number + 1 - net.chain.block_number())

            await stage.step(other_branch)
            assert named(events, "chain.reorged")
            assert not named(events, "book.lost")
            assert not stage.line.book.holds(orphaned)
            assert await audit(stage) == []


async def test_what_a_snapshot_holds_as_stopped_is_read_again_also_in_use(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keeper.app.line.Listener", partial(Listener, memory=4))
    net.borrowers(2, health=(1.02, 1.05), seed=1)
    settings = config(net, tmp_path)
    net.mine(20)
    with monkeypatch.context() as unknown, capture_logs() as events:
        unknown.setattr(deployment, "era_of", lambda _: None)
        async with staged(net, settings, live=True) as stage:
            await stage.line.snapshots.take()
            assert stage.line.book.stopped
            fork = await asyncio.to_thread(net.snapshot)
            await stage.mine(8)
            orphaned = stage.line.book.head
            assert orphaned is not None

            def other_branch() -> None:
                unknown.undo()
                net.revert(fork)
                net.set_price("WBTC", net.price("WBTC") * 999 // 1_000)
                net.mine(orphaned.number + 1 - net.chain.block_number())

            await stage.step(other_branch)
            (rebuilt,) = named(events, "book.rebuilt")
            assert rebuilt["origin"].startswith("snapshot")
            async with asyncio.timeout(20):
                while stage.line.book.stopped:  # noqa: ASYNC110 - anything may change it
                    await asyncio.sleep(0.01)
            assert await audit(stage) == []


async def test_a_chain_that_is_down_at_start_does_not_hold_up_another(
    net: Devnet, tmp_path: Path
) -> None:
    down = f"""
[chains.down]
chain_id = 5
endpoints = ["http://127.0.0.1:1"]
wrapped_native = "0x{net.tokens["WETH"].address.hex()}"

[chains.down.markets.aave]
protocol = "aave-v3"
pool = "0x{net.market.pool.hex()}"
"""
    crowd = net.borrowers(2, health=(1.02, 1.05), seed=1)
    settings = config(net, tmp_path, live=False, extra=down)
    async with staged(net, settings, live=False) as stage:
        state = stage.keeper.status()["chains"]
        assert state["down"]["phase"] == "starting"
        assert state["down"]["why"]
        assert not stage.keeper.is_ready()
        play = Play(stage)
        await stage.step(lambda: net.set_price("WETH", net.price("WETH") * 92 // 100))
        assert play.under(crowd) == set(crowd)
        assert any(each.name == "plan.dry" for each in stage.events)
