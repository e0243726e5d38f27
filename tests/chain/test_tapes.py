"""A crash played live, recorded, and gone through again: the same profit, and never a look ahead."""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from keeper.app import Outcome, Recorded, Variant, audit, chain_of, record, replay
from keeper.app.endpoints import Connection, open_endpoints
from keeper.app.replay import until
from keeper.cli import main
from keeper.cli.demo.stage import staged
from keeper.config import Chain, Settings, load
from keeper.devnet import Devnet
from keeper.devnet.operator import deploy_operator, write_settings
from keeper.devnet.prices import put_prices
from keeper.errors import ConfigError, InvariantError, TransientError
from keeper.ports import Rpc
from keeper.tape.chunks import Chunk, Kind, read_chunks
from keeper.tape.reading import read_tape, read_title
from keeper.tape.records import Block, Reads, Record, State, Taken
from keeper.tape.writing import TapeWriter
from keeper.types import CallResult, FlashKind, Head
from keeper.units import to_hex
from keeper.venues.uniswap_v3 import UniswapV3
from tests.line import Play

NAME = "devnet"


@dataclass(frozen=True)
class Crash:
    """A live run: its settings, its tape, its profit in dollars (8 decimals), who was liquidated."""

    settings: Path
    tape: Path
    recorded: Recorded
    first: int
    net_usd: int
    liquidated: set[bytes]
    rivals: list[bytes]
    dust: list[bytes]

    @property
    def loaded(self) -> Settings:
        """Return the settings the keeper ran with."""
        return load([self.settings]).settings

    def variants(self, *overrides: str) -> list[Variant]:
        """Return the live settings, and those with more said about the strategy if there is more."""
        found = [Variant("live", self.loaded)]
        return found + [Variant(each, load([self.settings], [each]).settings) for each in overrides]

    async def replayed(
        self,
        variants: Sequence[Variant],
        change: Callable[[Iterable[Record]], Iterable[Record]] = iter,
    ) -> list[Outcome]:
        """Go through the tape, its records changed on the way."""
        name, table = chain_of(read_title(self.tape), self.loaded, str(self.tape))
        return await replay(name, table, change(read_tape(self.tape)), variants)


@pytest.fixture(scope="module")
def crash(devnet: Devnet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crash]:
    """Play a crash with the real keeper, a recorder beside it, once for all tests here."""
    before = devnet.snapshot()
    try:
        yield asyncio.run(_played(devnet, tmp_path_factory.mktemp("crash")))
    finally:
        devnet.automine(False)
        devnet.revert(before)


async def _played(net: Devnet, home: Path) -> Crash:
    crowd = net.borrowers(6, health=(1.01, 1.05), seed=31)
    rivals = net.borrowers(2, health=1.03, seed=32)
    dust = net.borrowers(2, health=1.03, size_usd=(20, 60), seed=33)
    operator = deploy_operator(net)
    usdc, kept = net.tokens["USDC"].address, 20_000 * 10**6
    net.give("USDC", operator.contract, kept)
    budget = [usdc, 0, kept]
    net.send(operator.owner, operator.contract, "set_budget(address,uint256,uint256)", budget)
    path = write_settings(net, operator, home)
    settings, tape = load([path]).settings, home / "crash.tape"

    def fall(price: int, victims: Sequence[bytes] = ()) -> None:
        with net.one_block():
            put_prices(net.chain, net.market, {"WETH": price})
            net._put_arbitrage(net.market)
            for victim in victims:
                net.liquidate_as_rival(victim, "WETH", "USDC", put=True, max_fee=20 * 10**9)

    async with staged(net, settings, live=True) as stage:
        play = Play(stage)
        first = net.chain.block_number()
        begun = asyncio.Event()
        recording = asyncio.create_task(
            record(settings, NAME, tape, last=first + 6, told=lambda _: begun.set())
        )
        await begun.wait()
        await stage.step(lambda: fall(2_350_00000000, rivals))
        await stage.mine(2)
        await stage.step(lambda: fall(2_250_00000000))
        await stage.mine(2)
        lent = [
            quote.flash.kind
            for report in stage.reports
            for plan in report.sent
            for quote in plan.quotes
        ]
        tally = play.count()
        recorded = await recording
    assert {FlashKind.INVENTORY} < set(lent), "the owner's capital pays for some of it"
    assert len(tally.liquidated) >= len(crowd)
    assert tally.reverted == 0
    return Crash(path, tape, recorded, first, tally.net_usd, tally.liquidated, rivals, dust)


async def test_a_replay_earns_what_the_live_run_did_to_the_cent_and_twice_the_same(
    crash: Crash,
) -> None:
    (once,) = await crash.replayed(crash.variants())
    (twice,) = await crash.replayed(crash.variants())
    assert once == twice
    assert once.net_usd == crash.net_usd > 0
    assert {borrower for _, borrower in once.taken} == crash.liquidated
    assert once.by_record == once.plans > 0
    assert once.undecided == once.failed == once.open == 0
    assert {m.liquidation.borrower for m in once.missed} == set(crash.rivals)
    assert {m.why for m in once.missed} == {"it was not at risk at the head before"}
    assert once.skipped()["unprofitable"] >= len(crash.dust)


async def test_settings_are_compared_on_the_same_tape(crash: Crash) -> None:
    live, greedy, cheap = await crash.replayed(
        crash.variants(
            "strategies.profitability.min_profit_usd=1000",
            "limits.largest_repay_usd=35000",
        )
    )
    assert live.net_usd == crash.net_usd
    assert 0 < greedy.items < live.items
    assert 0 < greedy.net_usd < live.net_usd
    left = {borrower for _, borrower in live.taken} - {b for _, b in greedy.taken}
    missed = {m.liquidation.borrower: m for m in greedy.missed}
    assert left <= missed.keys()
    assert all(missed[who].is_ours and "minimum" in missed[who].why for who in left)
    assert cheap.net_usd != live.net_usd


async def test_no_decision_knows_what_comes_after_it(crash: Crash) -> None:
    """Whatever is taken away or poisoned behind a head, the decisions up to it stay the same."""
    (whole,) = await crash.replayed(crash.variants())
    heads = [number for number, _ in whole.digests]
    assert whole.planned_at
    for cut in heads:
        (part,) = await crash.replayed(crash.variants(), partial(until, number=cut))
        assert part.digests == whole.digests[: heads.index(cut) + 1]
    for cut in whole.planned_at:
        (part,) = await crash.replayed(crash.variants(), partial(poisoned, cut=cut))
        upto = heads.index(cut) + 1
        assert part.digests[:upto] == whole.digests[:upto]
        assert part.digests[upto:] != whole.digests[upto:], "the poison did nothing"


async def test_the_audit_finds_a_strategy_that_looks_ahead(crash: Crash) -> None:
    """A decision that differs once the later half is gone is told of by its head."""
    name, table = chain_of(read_title(crash.tape), crash.loaded, "tape")
    variants = crash.variants()
    outcomes = await crash.replayed(variants)
    found = await audit(name, table, read_tape(crash.tape), variants, outcomes)
    assert found.decisions >= 2
    head, decided = outcomes[0].digests[0]
    outcomes[0].digests[0] = (head, bytes(len(decided)))
    with pytest.raises(ConfigError, match=f"head {head} differs"):
        await audit(name, table, read_tape(crash.tape), variants, outcomes)


def poisoned(records: Iterable[Record], cut: int) -> Iterator[Record]:
    """Yield a tape whose every answer behind a head is another: prices halved, logs gone."""
    number = -1
    for each in records:
        match each:
            case Block() if each.head.number > cut:
                number = each.head.number
                yield replace(each, logs=[])
            case Reads() if number > cut:
                halved = [
                    CallResult(r.ok, (int.from_bytes(r.data[:32], "big") // 2).to_bytes(32, "big"))
                    for r in each.results
                ]
                yield replace(each, results=halved)
            case _:
                yield each


@pytest.fixture
def damaged(crash: Crash, tmp_path: Path) -> Callable[[Callable[[bytearray], object]], Path]:
    """Return a copy of the tape that something was done to."""

    def copied(change: Callable[[bytearray], object]) -> Path:
        content = bytearray(crash.tape.read_bytes())
        change(content)
        path = tmp_path / "copy.tape"
        path.write_bytes(content)
        return path

    return copied


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("a byte", lambda c: c.__setitem__(len(c) // 2, c[len(c) // 2] ^ 1), "damaged behind byte"),
        ("the last byte", lambda c: c.__setitem__(-1, c[-1] ^ 128), "damaged behind byte"),
        ("a length", lambda c: c.__setitem__(12, c[12] ^ 4), "damaged behind byte 10"),
        ("truncated", lambda c: c.__delitem__(slice(len(c) - 7, None)), "ends inside a record"),
        ("empty", lambda c: c.clear(), "is no tape"),
        ("its start alone", lambda c: c.__delitem__(slice(10, None)), "ends inside a record"),
        ("another file", lambda c: c.__setitem__(slice(0, 8), b"SQLite f"), "is no tape"),
        ("a version", lambda c: c.__setitem__(9, 2), "has version 2, this keeper reads 1"),
    ],
)
def test_a_damaged_tape_is_one_line_and_exit_2(
    crash: Crash,
    damaged: Callable[[Callable[[bytearray], object]], Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change: Callable[[bytearray], object],
    line: str,
) -> None:
    code, out, err = run(monkeypatch, capsys, "replay", damaged(change), "-c", crash.settings)
    assert (code, out) == (2, ""), name
    assert err.count("\n") == 1
    assert line in err


def test_a_tape_of_another_chain_or_other_markets_is_one_line(
    crash: Crash, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for override, line in (
        ("chains.devnet.chain_id=1", "is of chain 31337"),
        ("chains.devnet.markets.more.pool=0x" + "11" * 20, "settings of market more"),
        ("chains.devnet.venues.uniswap.fees=[500]", "other settings of venue uniswap"),
    ):
        command = ["replay", crash.tape, "-c", crash.settings, "--set", override]
        if "more" in override:
            command += ["--set", "chains.devnet.markets.more.protocol=aave-v3"]
        code, _, err = run(monkeypatch, capsys, *command)
        assert (code, err.count("\n")) == (2, 1), err
        assert line in err


def test_the_command_prints_each_setting_and_the_same_twice(
    crash: Crash, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (
        *("replay", crash.tape, "-c", crash.settings, "--json", "--no-audit"),
        *("--strategy", "profitability", "--strategy", "picky=profitability"),
        *("--set", "strategies.picky.min_profit_usd=1000"),
    )
    first = run(monkeypatch, capsys, *command)
    assert first == run(monkeypatch, capsys, *command)
    live, picky = json.loads(first[1])["variants"]
    assert (live["name"], picky["name"]) == ("profitability", "picky")
    assert Decimal(live["net_usd"]).scaleb(8) == crash.net_usd
    assert float(picky["net_usd"]) < float(live["net_usd"])
    code, out, _ = run(monkeypatch, capsys, "replay", crash.tape, "-c", crash.settings)
    assert code == 0
    assert "everything later taken away" in out
    assert "not at risk at the head before" in out


def test_a_tape_holds_no_secret(crash: Crash) -> None:
    chunks = [c.content for c in read_chunks(crash.tape) if isinstance(c, Chunk)]
    text = b"".join(chunks) + crash.tape.read_bytes()
    for secret in (b"://", b"127.0.0.1", b"password", b"keystore", b"operator.json"):
        assert secret not in text
    assert crash.tape.stat().st_mode & 0o077 == 0


async def test_a_tape_that_was_cut_is_gone_on_with(
    crash: Crash, damaged: Callable[[Callable[[bytearray], object]], Path]
) -> None:
    """A recorder killed at any byte goes on where the last whole chunk ended, and loses nothing."""
    (whole,) = await crash.replayed(crash.variants())
    path = damaged(lambda c: c.__delitem__(slice(len(c) * 3 // 4, None)))
    made = await record(crash.loaded, NAME, path, last=crash.first + 6)
    assert made.cut_off
    assert made.last == crash.first + 6
    (again,) = await replace(crash, tape=path).replayed(crash.variants())
    assert again.digests == whole.digests
    assert again.net_usd == whole.net_usd


async def test_a_tape_cut_off_before_its_first_state_is_begun_anew(
    crash: Crash, damaged: Callable[[Callable[[bytearray], object]], Path]
) -> None:
    page = next(c for c in read_chunks(crash.tape) if isinstance(c, Chunk) and c.kind is Kind.PAGE)
    path = damaged(lambda c: c.__delitem__(slice(page.end, None)))
    made = await record(crash.loaded, NAME, path, crash.first + 6, crash.first + 6)
    assert (made.continued_at, made.last) == (None, crash.first + 6)
    assert read_title(path) == read_title(crash.tape)
    assert [type(each) for each in read_tape(path)][-1] is Reads


class Flaky:
    """A node that does not answer a read, and knows no receipt, when asked for the first time."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._asked: set[str] = set()

    async def request(self, method: str, params: Sequence[object]) -> Any:
        asked = json.dumps([method, params])
        is_known = asked in self._asked
        self._asked.add(asked)
        if method == "eth_call" and not is_known:
            raise TransientError("no answer")
        if method == "eth_getTransactionReceipt" and not is_known:
            return None
        return await self._rpc.request(method, params)


Connecting = Callable[[Callable[[Rpc], Rpc]], None]


@pytest.fixture
def connecting(monkeypatch: pytest.MonkeyPatch) -> Connecting:
    """Return what puts something between the recorder and its node; nothing is waited for then."""

    def connected(wrap: Callable[[Rpc], Rpc]) -> None:
        async def opened(table: Chain, stack: AsyncExitStack) -> Connection:
            connection = await open_endpoints(table, stack)
            return replace(connection, rpc=wrap(connection.rpc))

        monkeypatch.setattr("keeper.app.recording.open_endpoints", opened)
        monkeypatch.setattr("keeper.app.recording.random.uniform", lambda *_: 0.0)

    return connected


def behind(tape: Path, path: Path, kind: type[Record]) -> Path:
    """Write a tape that ends behind the first record of a kind."""
    writer = TapeWriter(path)
    for each in read_tape(tape):
        writer.add(each)
        if isinstance(each, kind):
            break
    writer.close()
    return path


@pytest.mark.parametrize("kind", [State, Block])
async def test_nothing_is_lost_to_a_node_that_does_not_answer_at_first(
    crash: Crash,
    tmp_path: Path,
    connecting: Connecting,
    kind: type[Record],
) -> None:
    connecting(Flaky)
    path = behind(crash.tape, tmp_path / "cut.tape", kind)
    with capture_logs() as lines:
        made = await record(crash.loaded, NAME, path, last=crash.first + 6)
    errors = {line["error"] for line in lines if line["event"] == "recording.retried"}
    assert errors == {"no answer", "the node does not hold the receipt of a liquidation"}
    assert made.unread == 0
    told = [[r for r in read_tape(t) if isinstance(r, Taken)] for t in (crash.tape, path)]
    assert told[0] == told[1]
    (whole,) = await crash.replayed(crash.variants())
    (again,) = await replace(crash, tape=path).replayed(crash.variants())
    assert again.digests == whole.digests
    assert again.net_usd == whole.net_usd
    assert {m.liquidation.borrower for m in again.missed} == set(crash.rivals)


async def test_a_tape_is_not_begun_without_a_part(
    crash: Crash, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: object) -> None:
        raise InvariantError("uniswap", "no such pool")

    monkeypatch.setattr(UniswapV3, "bootstrap", failing)
    path = tmp_path / "new.tape"
    with pytest.raises(ConfigError, match=r"not loaded: venue/uniswap: .*no such pool"):
        await record(crash.loaded, NAME, path, last=crash.first + 6)
    assert not path.exists()


async def test_a_state_without_a_part_is_waited_for_longer_each_time(
    crash: Crash,
    tmp_path: Path,
    connecting: Connecting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads, load = [0], UniswapV3.bootstrap

    async def failing(venue: UniswapV3, reader: Any, head: Head) -> None:
        loads[0] += 1
        if loads[0] <= 3:
            raise InvariantError("uniswap", "no such pool")
        await load(venue, reader, head)

    def senseless(*_: object) -> None:
        raise InvariantError("uniswap", "a log makes no sense")

    connecting(lambda rpc: rpc)
    path = behind(crash.tape, tmp_path / "cut.tape", Reads)
    monkeypatch.setattr(UniswapV3, "bootstrap", failing)
    monkeypatch.setattr(UniswapV3, "fold", senseless)
    with capture_logs() as lines:
        made = await record(crash.loaded, NAME, path, last=crash.first + 6)
    retried = [line for line in lines if line["event"] == "recording.retried"]
    assert [line["longest_pause"] for line in retried] == [1, 2, 4]
    assert all("venue/uniswap: " in line["error"] for line in retried)
    assert made.last >= crash.first + 6
    states = [each for each in read_tape(path) if isinstance(each, State)]
    assert len(states) == 2
    assert states[1].pages.keys() == states[0].pages.keys()


def test_scan_shows_strategies_side_by_side_on_one_head(
    devnet: Devnet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = devnet.snapshot()
    try:
        big = devnet.borrowers(2, health=1.03, size_usd=(20_000, 20_000), seed=41)
        small = devnet.borrowers(1, health=1.03, size_usd=(400, 400), seed=42)
        path = write_settings(devnet, deploy_operator(devnet), tmp_path, live=False)
        devnet.set_price("WETH", devnet.price("WETH") * 94 // 100)
        picky = (
            "--strategy",
            "picky=profitability",
            "--set",
            "strategies.picky.min_profit_usd=100",
        )
        command = ("scan", "-c", path, "--strategy", "profitability", *picky)
        code, out, err = run(monkeypatch, capsys, *command, "--json")
        assert code == 0, err
        told = json.loads(out)
        assert told["head"] == devnet.chain.block_number()
        assert [each["name"] for each in told["strategies"]] == ["profitability", "picky"]
        rows = {row["borrower"].lower(): row["verdicts"] for row in told["positions"]}
        assert rows.keys() >= {to_hex(who) for who in (*big, *small)}
        for who in big:
            for verdict in rows[to_hex(who)]:
                assert verdict["net_usd"] is not None, verdict
                assert float(verdict["net_usd"]) > 100
                assert verdict["told"].startswith("repay")
        taken, refused = rows[to_hex(small[0])]
        assert float(taken["net_usd"]) > 0
        assert refused["net_usd"] is None
        assert refused["told"].startswith("unprofitable")
        code, out, _ = run(monkeypatch, capsys, *command, "--limit", "1")
        assert code == 0
        assert "picky: 1 plan, " in out
        code, out, _ = run(monkeypatch, capsys, *command, "--json", "--limit", "1")
        assert len(json.loads(out)["positions"]) == 1
        denied = ("--set", 'chains.devnet.deny.tokens=["WETH"]')
        code, out, _ = run(monkeypatch, capsys, "scan", "-c", path, *denied, "--json")
        assert code == 0
        alone = {row["borrower"].lower(): row for row in json.loads(out)}
        for who in big:
            assert alone[to_hex(who)]["net_usd"] is None
            assert "WETH" in alone[to_hex(who)]["why"]
    finally:
        devnet.automine(False)
        devnet.revert(before)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--strategy", "profitabilty"], "did you mean profitability?"),
        (["--strategy", "a=nothing_like_it"], "known here: full_close"),
        (["--strategy", "nothing_like_it"], "--strategy nothing_like_it: no strategy is named"),
        (["--strategy", "a="], "--strategy needs NAME or NAME=USE"),
        (
            ["--strategy", "full_close", "--set", "strategies.full_close.min_profit_usd=-1"],
            "--set: strategies.full_close.min_profit_usd",
        ),
        (["--strategy", "full_close", "--set", "strategies.full_close.leest=any"], "least?"),
    ],
)
def test_a_strategy_that_cannot_be_asked_is_one_line(
    crash: Crash,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    line: str,
) -> None:
    for command in (("replay", crash.tape), ("scan",)):
        code, _, err = run(monkeypatch, capsys, *command, "-c", crash.settings, *more)
        assert (code, err.count("\n")) == (2, 1), err
        assert line in err


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *command: object
) -> tuple[int, str, str]:
    """Run the command line; return exit code, output and what it said on stderr."""
    monkeypatch.setattr("sys.argv", ["keeper", *map(str, command)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err
