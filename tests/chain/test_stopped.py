"""One market or venue that is wrong stops, the others go on, and it heals; on the real contracts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.chain.words import topic
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import allow_market, deploy_operator, write_settings
from keeper.errors import IncompleteError, InvariantError
from keeper.journal.liquidations import read_liquidations
from keeper.ports import LendingProtocol, Reader
from keeper.protocols.aave_v3 import bootstrap, deployment, market as aave_module
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.types import Log, Reason
from keeper.units import Address, Hash, to_hex
from tests.line import Play, assert_clean

EVERY_HEAD = "[audit]\nheads = 1\nsample = 10000"
TRANSFER = topic("BalanceTransfer(address,address,uint256,uint256)")
UPGRADED = topic("Upgraded(address)")
SWAP = topic("Swap(address,address,int256,int256,uint160,uint128,int24)")
MINT = topic("Mint(address,address,uint256,uint256,uint256)")


class Two:
    """A keeper of two markets and one exchange, with borrowers in both markets."""

    def __init__(self, play: Play, first: list[bytes], second: list[bytes], journal: Path) -> None:
        self.play, self.journal = play, journal
        self.stage, self.net, self.line = play.stage, play.net, play.stage.line
        self.first, self.second = first, second
        self.gate = asyncio.Event()
        self.gate.set()
        rebuilder = self.line.upkeep.rebuilder
        rebuilder._first_pause = 0.01
        load_market = rebuilder._load

        async def held(name: str) -> None:
            await load_market(name)
            await self.gate.wait()

        rebuilder._load = held

    @property
    def stopped(self) -> dict[str, str]:
        return dict(self.line.book.stopped)

    def protocol(self, name: str) -> LendingProtocol:
        return self.line.book.markets[name].protocol

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - anything may change it
                await asyncio.sleep(0.01)

    async def fall(self) -> None:
        """Let every borrower's collateral fall under the threshold, and give it two blocks."""
        await self.stage.step(lambda: self.net.set_price("WETH", 2_300_00000000))
        await self.stage.mine(2)

    def left(self, borrowers: list[bytes]) -> set[bytes]:
        self.play.count()
        return set(borrowers) - self.play.tally.liquidated

    async def emit(self, source: bytes, kind: bytes, *more: bytes) -> None:
        """Have a watched contract log a topic with no data, its code otherwise as it was."""
        await self.stage.step(lambda: emit(self.net, source, kind, *more))


def emit(net: Devnet, source: bytes, kind: bytes, *more: bytes) -> None:
    name = "0x" + source.hex()
    code = net.rpc("eth_getCode", name, "latest")
    topics = [kind, *more]
    pushes = b"".join(b"\x7f" + each.rjust(32, b"\0") for each in reversed(topics))
    emitter = pushes + bytes.fromhex("60006000") + bytes([0xA0 + len(topics)]) + b"\0"
    net.rpc("anvil_setCode", name, "0x" + emitter.hex())
    net.send(net.users[9].address, source, "poke()", [])
    net.rpc("anvil_setCode", name, code)


@asynccontextmanager
async def two(net: Devnet, home: Path, extra: str = "") -> AsyncIterator[Two]:
    market = net.deploy_market()
    first = net.borrowers(3, collateral="WETH", debt="USDC", health=1.04, seed=21)
    second = net.borrowers(3, collateral="WETH", debt="USDC", health=1.04, seed=22, market=market)
    operator = deploy_operator(net)
    allow_market(net, operator.contract, operator.owner, market)
    markets = {"one": net.market, "two": market}
    path = write_settings(net, operator, home, markets=markets, extra=extra)
    settings = load([path]).settings
    async with staged(net, settings, live=True) as stage:
        scene = Two(Play(stage), first, second, settings.journal_file)
        try:
            yield scene
        finally:
            scene.gate.set()


def events(lines: list[Any], name: str) -> list[dict[str, Any]]:
    return [dict(line) for line in lines if line["event"] == name]


async def test_drift_found_by_the_audit_stops_its_market_until_it_is_rebuilt(
    net: Devnet, tmp_path: Path
) -> None:
    async with two(net, tmp_path, EVERY_HEAD) as scene:
        await scene.stage.mine(3)
        assert scene.stopped == {}
        scene.gate.clear()
        head = scene.line.book.head
        assert head is not None
        thief = scene.net.users[8].address
        planted = Log(
            Address(net.tokens["WETH"].a_token),
            (TRANSFER, *(each.rjust(32, b"\0") for each in (scene.first[0], thief))),
            (12_345).to_bytes(32, "big") + (10**27).to_bytes(32, "big"),
            head.number,
            head.hash,
            0,
            Hash(b""),
            head.timestamp,
        )
        with capture_logs() as lines:
            scene.protocol("one").fold(planted)
            await scene.stage.mine()
            await scene.until(lambda: "market/one" in scene.stopped)
            (line,) = events(lines, "market.stopped")
            assert (line["name"], line["kind"], line["log_level"]) == ("one", "drift", "error")
            assert "on the chain" in line["why"]
            assert scene.stopped == {"market/one": line["why"]}
            await scene.fall()
            assert scene.left(scene.second) == set(), "the other market stopped too"
            assert scene.left(scene.first) == set(scene.first)
            shown = scene.line.status.as_json()
            assert (shown["state"], shown["stopped"]) == ("warn", {"market/one": line["why"]})
            assert scene.stage.keeper.is_ready()
            scene.gate.set()
            await scene.until(lambda: not scene.stopped)
            await scene.stage.mine(2)
        assert [line["name"] for line in events(lines, "market.rebuilt")] == ["one"]
        assert scene.left(scene.first) == set()
        assert await scene.play.audit() == []
        assert_clean(scene.play.tally)
        metrics = scene.stage.keeper.metrics.registry
        where = {"chain": "devnet", "part": "market/one"}
        assert metrics.get_sample_value("keeper_faults_total", {**where, "kind": "drift"}) == 1
        assert metrics.get_sample_value("keeper_rebuilds_total", {**where, "result": "ok"}) == 1
        assert metrics.get_sample_value("keeper_part_stopped", where) == 0
        where = {"chain": "devnet", "protocol": "aave-v3"}
        assert (metrics.get_sample_value("keeper_audit_drift_total", where) or 0) >= 1
        assert (metrics.get_sample_value("keeper_audit_checked_total", where) or 0) > 100


async def test_a_proxy_upgraded_to_known_rules_goes_on_at_once(net: Devnet, tmp_path: Path) -> None:
    async with two(net, tmp_path) as scene:
        with capture_logs() as lines:
            await scene.emit(net.tokens["WETH"].a_token, UPGRADED, b"\x01")
            await scene.until(lambda: not scene.stopped)
        (line,) = events(lines, "market.stopped")
        assert (line["name"], line["kind"]) == ("one", "upgraded")
        assert "was replaced in block" in line["why"]
        await scene.fall()
        assert scene.left([*scene.first, *scene.second]) == set()
        assert_clean(scene.play.tally)


async def test_a_proxy_upgraded_to_unknown_rules_stays_stopped_until_the_next_upgrade(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(net, tmp_path) as scene:
        with monkeypatch.context() as patched, capture_logs() as lines:
            patched.setattr(deployment, "era_of", lambda _: None)
            await scene.emit(net.market.pool, UPGRADED, b"\x01")
            await scene.until(lambda: "not known" in scene.stopped.get("market/one", ""))
            await scene.until(lambda: not scene.line.book.parts.faults)
            await scene.stage.mine(3)
            assert "pool revision 10 are not known" in scene.stopped["market/one"]
            await scene.fall()
            assert scene.left(scene.second) == set()
            assert scene.left(scene.first) == set(scene.first)
            assert scene.play.reasons(scene.first) == {Reason.DENIED}
            assert await scene.play.audit() == [], "watched and audited all the same"
        assert len(events(lines, "market.rebuild_failed")) == 0
        assert [line.get("kind") for line in events(lines, "market.stopped")] == ["upgraded", None]
        await scene.emit(net.market.pool, UPGRADED, b"\x02")
        await scene.until(lambda: not scene.stopped)
        await scene.stage.mine(2)
        assert scene.left(scene.first) == set()


@pytest.mark.parametrize("kind", [SWAP, MINT])
async def test_garbage_from_a_watched_contract_stops_its_part_alone(
    net: Devnet, tmp_path: Path, kind: bytes
) -> None:
    async with two(net, tmp_path) as scene:
        source = net.tokens["WETH"].a_token if kind == MINT else some_pool(scene)
        part = "market/one" if kind == MINT else "venue/uniswap"
        bootstrap = scene.line.book.sources[part].bootstrap
        gate = asyncio.Event()

        async def held(*args: Any) -> None:
            await gate.wait()
            await bootstrap(*args)

        source_of_part: Any = scene.line.book.sources[part]
        source_of_part.bootstrap = held
        with capture_logs() as lines:
            await scene.emit(source, kind)
            assert set(scene.stopped) == {part}
            await scene.fall()
            everyone = [*scene.first, *scene.second]
            if kind == MINT:
                assert scene.left(everyone) == set(scene.first)
                # what others take there meanwhile is on record with the reason
                rival = partial(net.liquidate_as_rival, scene.first[0], "WETH", "USDC")
                await scene.stage.step(rival)
                await scene.stage.mine()
                await scene.line.reconciler.close()
                rows = read_liquidations(scene.journal, 0, 2**40)
                (lost,) = [row for row in rows if not row.is_ours]
                assert (lost.borrower, lost.market) == (to_hex(Address(scene.first[0])), "one")
                assert (lost.reason, lost.detail) == ("stopped", scene.stopped[part])
                everyone.remove(scene.first[0])
            else:
                assert scene.left(everyone) == set(everyone)
                assert scene.play.reasons(everyone) == {Reason.NO_ROUTE}
            gate.set()
            await scene.until(lambda: not scene.stopped)
            await scene.stage.mine(2)
        (line,) = events(lines, f"{part.partition('/')[0]}.stopped")
        assert line["kind"] == "undecodable"
        assert "does not decode" in line["why"]
        assert f"0x{source.hex()}" in line["why"]
        assert scene.left(everyone) == set()
        assert await scene.play.audit() == []


def some_pool(scene: Two) -> bytes:
    venue: Any = scene.line.book.sources["venue/uniswap"]
    return bytes(min(venue.pools))


@pytest.mark.parametrize("error", [ValueError("no such word"), IncompleteError("sums differ")])
async def test_a_market_that_cannot_be_loaded_holds_up_no_other(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    is_broken, load_ledger = True, bootstrap.load

    async def broken(reader: Reader, market: str, *rest: Any) -> Ledger:
        if is_broken and market == "one":
            raise error
        return await load_ledger(reader, market, *rest)

    monkeypatch.setattr(aave_module, "load", broken)
    with capture_logs() as lines:
        async with two(net, tmp_path) as scene:
            assert scene.stopped == {"market/one": str(error)}
            assert scene.stage.keeper.is_ready()
            (line,) = events(lines, "market.stopped")
            assert (line["name"], line["kind"], line["why"]) == ("one", "unloaded", str(error))
            await scene.fall()
            assert scene.left(scene.second) == set()
            assert scene.left(scene.first) == set(scene.first)
            is_broken = False
            await scene.until(lambda: not scene.stopped)
            await scene.stage.mine(2)
            assert scene.left(scene.first) == set()
            assert await scene.play.audit() == []
            assert_clean(scene.play.tally)


async def test_the_only_market_that_cannot_be_loaded_is_no_quarantine(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Ledger:
        raise InvariantError("aave", "reserve id 200 is out of range")

    monkeypatch.setattr(aave_module, "load", broken)
    settings = load([write_settings(net, deploy_operator(net), tmp_path)]).settings
    with pytest.raises(InvariantError, match="out of range"):
        async with staged(net, settings, live=True):
            pass
