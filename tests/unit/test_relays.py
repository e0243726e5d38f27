import asyncio
import copy
import pickle
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from eth_utils.address import to_checksum_address

from keeper.errors import RpcError, TransientError
from keeper.execution.answer import Answer
from keeper.execution.relays import bundles as bundling
from keeper.execution.relays.bundles import Bundles
from keeper.execution.relays.flow import PrivateFlow, Route
from keeper.execution.relays.identity import Identity
from keeper.execution.relays.private import PrivateTransactions
from keeper.execution.relays.scores import IN_VAIN, PROBE, Handed, Scores
from keeper.execution.relays.shared import SharedBundles
from keeper.execution.relays.wire import IDLE, RelayWire
from keeper.execution.signer import KeySigner
from keeper.ports import Relay
from keeper.types import Plan, Signed
from keeper.units import Hash, to_hex
from tests.fake_node import FakeNode
from tests.plans import OPERATOR_KEY, Plans
from tests.relay_stand_in import RelayStandIn

KEY = b"\x11" * 32
TOKEN = "Bearer 0123456789abcdef"  # not one


async def signed(nonce: int = 0, plan: Plan | None = None) -> Signed:
    plan = plan or Plans().make()
    signer = KeySigner(OPERATOR_KEY)
    raw, tx_hash = await signer.sign(
        {
            "chainId": 1,
            "nonce": nonce,
            "maxPriorityFeePerGas": 1,
            "maxFeePerGas": 2,
            "gas": 21_000,
            "to": plan.contract,
            "value": 0,
            "data": plan.calldata,
        }
    )
    return Signed(plan, signer.address, nonce, raw, tx_hash)


class Crowd:
    """Some stand-ins before one node, and what speaks to them."""

    def __init__(self) -> None:
        self.node = FakeNode()
        self.stack = AsyncExitStack()
        self.seen: list[tuple[str, str]] = []
        self.ended: list[tuple[str, str]] = []

    async def stand_in(self) -> RelayStandIn:
        return await self.stack.enter_async_context(RelayStandIn(self.node))

    def wire(
        self, name: str, stand_in: RelayStandIn, authorization: str | None = None
    ) -> RelayWire:
        wire = RelayWire(
            name, stand_in.url + "s3cret-path-key", Identity(KEY), authorization, timeout=0.2
        )
        self.stack.push_async_callback(wire.close)
        return wire

    def flow(self, relays: list[Relay], blocks: int = 2, public_after: int = 0) -> PrivateFlow:
        scores = Scores(
            [relay.name for relay in relays],
            lambda relay, how, _: self.seen.append((relay, how)),
            lambda relay, outcome: self.ended.append((relay, outcome)),
        )
        flow = PrivateFlow([Route(relay, blocks) for relay in relays], scores, public_after)
        self.stack.push_async_callback(flow.close)
        return flow


@pytest.fixture
async def crowd() -> AsyncIterator[Crowd]:
    made = Crowd()
    async with made.stack:
        yield made


def test_the_signature_is_over_the_hash_as_text() -> None:
    body = b'{"jsonrpc":"2.0","method":"eth_sendBundle","params":[{"txs":["0xabc"],"blockNumber":"0x1"}],"id":1}'
    signature = (
        "1e553dddb42949b2f3021371f9d9796396eeae9367c44208ed6b4946cb5a299b"
        "54a25e32ebf4ed4f57f20a77a1c12a263a311f30139a32be1d7f08330361d53c1c"
    )
    expected = f"0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A:0x{signature}"
    assert Identity(KEY).header(body) == expected


def test_an_identity_gives_nothing_away() -> None:
    identity = Identity(KEY)
    assert repr(identity) == "Identity(0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A)"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(identity)


async def test_an_idle_wire_has_its_connection_before_it_hands_over() -> None:
    asked: list[tuple[str, int]] = []
    peers: set[object] = set()

    async def serve(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        asked.append((request.method, len(peers)))
        body = {"jsonrpc": "2.0", "id": 1, "result": "0x1"}
        return web.json_response(body, status=200 if request.method == "POST" else 405)

    now = [0.0]
    app = web.Application()
    app.router.add_route("*", "/", serve)
    async with TestServer(app) as server:
        wire = RelayWire("relay", str(server.make_url("/")), monotonic=lambda: now[0])
        await wire.warm()
        await wire.call("eth_chainId", [])
        now[0] = IDLE - 1
        await wire.warm()
        assert asked == [("HEAD", 1), ("POST", 1)]
        now[0] = IDLE
        await wire.warm()
        assert asked[2:] == [("HEAD", 1)]
    now[0] = 2 * IDLE
    await wire.warm()
    await wire.close()


async def test_every_relay_is_warmed_while_a_plan_is_proven(crowd: Crowd) -> None:
    warmed: asyncio.Queue[str] = asyncio.Queue()
    relays = [Bundles(crowd.wire(name, await crowd.stand_in())) for name in ("one", "two")]
    routes = [Route(relay, 2, warm=partial(warmed.put, relay.name)) for relay in relays]
    flow = PrivateFlow(routes, Scores(["one", "two"]), 0)
    flow.warm()
    async with asyncio.timeout(5):
        assert {await warmed.get(), await warmed.get()} == {"one", "two"}
    await flow.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until a condition holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_the_first_blocks_bundle_leaves_before_the_others_are_made(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hand-over ends with its answer; what later blocks get follows by itself."""
    relay = await crowd.stand_in()
    asked: list[int] = []
    call = RelayWire.call

    async def counted(self: RelayWire, method: str, params: Sequence[Any]) -> Any:
        asked.append(int(params[0]["blockNumber"], 16))
        return await call(self, method, params)

    monkeypatch.setattr(RelayWire, "call", counted)
    monkeypatch.setattr(bundling, "APART", 0.2)
    made = Bundles(crowd.wire("builder", relay))
    await made.send(await signed(), [], 101, 103)
    assert asked == [101]
    await until(lambda: relay.taken["eth_sendBundle"] == 3)
    assert asked == [101, 102, 103]


async def test_bundles_go_out_for_every_block_and_are_built_for_theirs(crowd: Crowd) -> None:
    relay = await crowd.stand_in()
    first, second = await signed(0), await signed(1)
    bundles = Bundles(crowd.wire("builder", relay))
    await bundles.send(second, [first], 101, 103)
    await until(lambda: relay.taken["eth_sendBundle"] == 3)
    assert relay.held == 3
    assert relay.senders == {"0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"}
    assert await relay.build(100) == 0
    assert await relay.build(101) == 2
    assert crowd.node.sent == [first.raw, second.raw]


async def test_a_bundle_replaces_the_one_of_its_nonce_and_block(crowd: Crowd) -> None:
    relay = await crowd.stand_in()
    bundles = Bundles(crowd.wire("builder", relay))
    plans = Plans()
    one, other = await signed(0, plans.make()), await signed(0, plans.make())
    await bundles.send(one, [], 101, 102)
    await bundles.send(other, [], 102, 103)
    await until(lambda: relay.taken["eth_sendBundle"] == 4)
    assert relay.held == 3, "what overtakes another is replaced by it"
    await relay.build(102)
    assert crowd.node.sent == [other.raw]
    await bundles.cancel(other, 103, 103)
    assert relay.held == 0


async def test_the_answer_for_the_next_block_is_enough(crowd: Crowd) -> None:
    relay = await crowd.stand_in()
    bundles = Bundles(crowd.wire("builder", relay))
    relay.holding = 102
    await bundles.send(await signed(0), [], 101, 103)
    await until(lambda: relay.held == 2)
    relay.holding, relay.refused = 0, {101}
    await bundles.send(await signed(1), [], 101, 102)
    assert relay.held == 3, "one refused for the next block may be taken for the one after it"
    relay.refused = {102}
    with pytest.raises(RpcError, match="nothing for block 102"):
        await bundles.send(await signed(2), [], 102, 102)
    await bundles.close()
    assert not bundles._asking


@pytest.mark.parametrize("raw", [False, True])
async def test_private_transactions_are_held_until_their_last_block(
    crowd: Crowd, raw: bool
) -> None:
    relay = await crowd.stand_in()
    private = PrivateTransactions(crowd.wire("relay", relay), raw=raw)
    one = await signed()
    await private.send(one, [], 101, 103)
    method = "eth_sendPrivateRawTransaction" if raw else "eth_sendPrivateTransaction"
    assert relay.taken == {method: 1}
    await private.cancel(one, 101, 103)
    assert relay.held == 0
    await private.send(one, [], 101, 103)
    assert await relay.build(104) == int(raw)
    crowd.node.pool.clear()
    assert await relay.build(103) == 1
    assert crowd.node.sent[-1] == one.raw


async def test_an_answer_about_another_transaction_says_nothing(crowd: Crowd) -> None:
    relay = await crowd.stand_in()
    relay.naming = "0x" + "77" * 32
    private = PrivateTransactions(crowd.wire("relay", relay))
    with pytest.raises(TransientError) as caught:
        await private.send(await signed(), [], 101, 103)
    assert not isinstance(caught.value, RpcError)


async def test_what_is_refused_is_told_apart_from_what_is_unclear(crowd: Crowd) -> None:
    relay = await crowd.stand_in()
    wire = crowd.wire("relay", relay)
    relay.refusing = "bundle too old"
    with pytest.raises(RpcError, match="bundle too old"):
        await wire.call("eth_sendBundle", [{}])
    relay.refusing, relay.limiting = "", True
    with pytest.raises(RpcError, match="slow down"):
        await wire.call("eth_sendBundle", [{}])
    relay.limiting, relay.authorization = False, TOKEN
    with pytest.raises(RpcError, match="HTTP 401"):
        await wire.call("eth_sendBundle", [{}])
    relay.authorization, relay.silent = "", True
    with pytest.raises(TransientError, match="no answer within") as caught:
        await wire.call("eth_sendBundle", [{}])
    assert not isinstance(caught.value, RpcError)


async def test_a_relay_checks_key_and_header(crowd: Crowd) -> None:
    relay = await crowd.stand_in()
    relay.authorization = TOKEN
    await PrivateTransactions(crowd.wire("relay", relay, TOKEN)).send(await signed(), [], 1, 2)
    assert relay.held == 1
    unsigned = RelayWire("relay", relay.url, None, TOKEN)
    crowd.stack.push_async_callback(unsigned.close)
    with pytest.raises(RpcError, match="signature"):
        await unsigned.call("eth_sendBundle", [{}])


async def test_no_secret_is_in_any_text(crowd: Crowd) -> None:
    relay = await crowd.stand_in()
    wire = crowd.wire("relay", relay, TOKEN)
    texts = [repr(wire), repr(Bundles(wire))]
    relay.authorization = TOKEN
    for words in (f"bad header {TOKEN}", f"no route to {relay.url}s3cret-path-key", ""):
        relay.refusing = words
        relay.silent = not words
        with pytest.raises(TransientError) as caught:
            await wire.call("eth_sendBundle", [{}])
        texts.append(str(caught.value))
    await relay.__aexit__()
    with pytest.raises(TransientError) as caught:
        await wire.call("eth_sendBundle", [{}])
    texts.append(str(caught.value))
    for text in texts:
        assert "s3cret" not in text
        assert "0123456789abcdef" not in text
        assert KEY.hex() not in text


async def test_one_that_took_it_is_enough(crowd: Crowd) -> None:
    good, bad, late = [await crowd.stand_in() for _ in range(3)]
    bad.refusing, late.silent = "no", True
    flow = crowd.flow(
        [
            PrivateTransactions(crowd.wire("late", late)),
            Bundles(crowd.wire("bad", bad)),
            Bundles(crowd.wire("good", good)),
        ]
    )
    one = await signed()
    assert await flow.hand_over(one, [], 100) == (Answer.ACCEPTED, "")
    await until(lambda: good.held == 2 and ("bad", "refused") in crowd.seen)
    assert flow.until(one.hash) == 102
    assert flow.wants(one.hash, 100), "the one that refused is asked again"
    await asyncio.sleep(0.3)
    assert sorted(crowd.seen) == [("bad", "refused"), ("good", "taken"), ("late", "unclear")]
    flow.ended(one.hash, 101)
    assert sorted(crowd.ended) == [("good", "shared"), ("late", "shared")]


async def test_what_relays_hold_is_not_given_to_them_again_before_its_last_block(
    crowd: Crowd,
) -> None:
    relay = await crowd.stand_in()
    flow = crowd.flow([Bundles(crowd.wire("builder", relay))])
    one = await signed()
    for head in (100, 101, 102):
        assert flow.wants(one.hash, head) is (head != 101)
        flow.keep(one, [], head)
    await until(lambda: relay.taken["eth_sendBundle"] == 4)
    assert not flow.wants(one.hash, 103)
    assert flow.until(one.hash) == 104


async def test_no_answer_counts_as_handed_over_and_refusals_do_not(crowd: Crowd) -> None:
    relay = await crowd.stand_in()
    one = await signed()
    relays: list[Relay] = [Bundles(crowd.wire("builder", relay))]
    relay.silent = True
    silent = crowd.flow(relays)
    answer, words = await silent.hand_over(one, [], 100)
    assert (answer, words) == (Answer.UNKNOWN, "builder: no answer within 0.2 s")
    assert silent.until(one.hash) == 102
    relay.silent, relay.limiting = False, True
    refused = crowd.flow(relays)
    answer, words = await refused.hand_over(one, [], 100)
    assert answer is Answer.RELAYS
    assert words == "builder: HTTP 429, it asks to slow down"
    assert refused.until(one.hash) == 0
    assert not refused._terms, "what never left is not remembered"
    waits = crowd.flow(relays, public_after=2)
    assert (await waits.hand_over(one, [], 100))[0] is Answer.UNKNOWN, "it goes public later"
    assert [waits.is_due(100, head) for head in (101, 102)] == [False, True]
    assert not refused.is_due(100, 10_000)


async def test_cancelling_asks_only_those_that_hold_it(crowd: Crowd) -> None:
    one_relay, other = await crowd.stand_in(), await crowd.stand_in()
    other.refusing = "no"
    flow = crowd.flow(
        [PrivateTransactions(crowd.wire("a", one_relay)), Bundles(crowd.wire("b", other))]
    )
    one = await signed()
    await flow.hand_over(one, [], 100)
    flow.forget(one, 100)
    await asyncio.sleep(0.05)
    assert one_relay.taken["eth_cancelPrivateTransaction"] == 1
    assert one_relay.held == 0
    flow.ended(one.hash, None)
    assert crowd.ended == [("a", "vain")]


def test_a_relay_that_never_includes_is_left_out_and_probed() -> None:
    scores = Scores(["idle", "good"])
    for _ in range(IN_VAIN):
        scores.ended("idle", included=False)
        scores.ended("good", included=True)
    turns = [list(scores.choose()) for _ in range(PROBE)]
    assert turns == [["good"]] * (PROBE - 1) + [["good", "idle"]]
    scores.ended("idle", included=True)
    assert list(scores.choose()) == ["good", "idle"]


async def test_of_several_that_held_it_none_is_called_the_winner(crowd: Crowd) -> None:
    relays = [await crowd.stand_in() for _ in range(3)]
    names = ("alone", "rider", "short")
    scores = Scores(names)
    one, two, gone = [
        PrivateTransactions(crowd.wire(*each)) for each in zip(names, relays, strict=True)
    ]
    flow = PrivateFlow([Route(one, 5), Route(two, 5), Route(gone, 1)], scores, 0)
    crowd.stack.push_async_callback(flow.close)
    sent = await signed()
    await flow.hand_over(sent, [], 100)
    assert flow.holders(sent.hash, 103) == "alone+rider"
    flow.ended(sent.hash, 103)
    for name in ("alone", "rider"):
        assert (scores.of(name).won, scores.of(name).together, scores.of(name).lost) == (0, 1, 0)
        assert not scores.of(name).is_idle
    assert (scores.of("short").together, scores.of("short").lost) == (0, 1)
    scores.ended("alone", included=True)
    assert scores.of("alone").won == 1
    assert scores.of("alone").inclusion == pytest.approx(2.5 / 4), "half of one, and all of one"
    assert list(scores.best_first()) == ["alone", "rider", "short"]


def test_the_only_relay_is_never_left_out() -> None:
    scores = Scores(["idle"])
    for _ in range(2 * IN_VAIN):
        scores.ended("idle", included=False)
    assert list(scores.choose()) == ["idle"]


def test_scores_add_up() -> None:
    scores = Scores(["a"])
    scores.handed("a", Handed.TAKEN, 1.0, "")
    scores.handed("a", Handed.REFUSED, 2.0, "a: no")
    scores.handed("a", Handed.UNCLEAR, 9.0, "a: no answer")
    score = scores.of("a")
    assert (score.taken, score.refused, score.unclear) == (1, 1, 1)
    assert score.seconds == pytest.approx(1.2)
    assert score.words == "a: no answer"


async def test_a_transaction_s_hash_is_the_key_of_what_is_held(crowd: Crowd) -> None:
    relay = await crowd.stand_in()
    flow = crowd.flow([PrivateTransactions(crowd.wire("a", relay))])
    one = await signed()
    await flow.hand_over(one, [], 100)
    assert await crowd.node.request("eth_getTransactionByHash", [to_hex(one.hash)]) is None
    assert flow.until((await signed(1)).hash) == 0


PENDING = Hash(b"\x42" * 32)


def behind() -> Plan:
    return replace(Plans().make(), after=PENDING)


async def test_a_shared_bundle_puts_ours_behind_a_pending_transaction(crowd: Crowd) -> None:
    stand_in = await crowd.stand_in()
    relay = SharedBundles(crowd.wire("share", stand_in), ["hash"], ["one", "two"])
    first, ours = await signed(0), await signed(1, behind())
    await relay.send(ours, [first], 101, 103)
    assert stand_in.taken == {"mev_sendBundle": 1}
    assert stand_in.senders == {to_checksum_address(Identity(KEY).address)}
    assert stand_in.privacy == {"hints": ["hash"], "builders": ["one", "two"]}
    assert await stand_in.build(100) == 0, "before its first block"
    assert await stand_in.build(101) == 0, "nobody has what it stands behind"
    theirs = await signed(7)
    stand_in.pending[to_hex(PENDING)] = to_hex(theirs.raw)
    crowd.node.sent.clear()
    await stand_in.build(103)
    assert crowd.node.sent == [each.raw for each in (first, theirs, ours)]
    assert stand_in.held == 0, "its last block is over"
    await relay.cancel(ours, 104, 105)
    assert stand_in.taken == {"mev_sendBundle": 1}


async def test_the_stand_in_refuses_what_the_format_does_not_know(crowd: Crowd) -> None:
    stand_in = await crowd.stand_in()
    wire = crowd.wire("share", stand_in)
    ours = await signed(0, behind())
    with pytest.raises(RpcError, match="1 to 30"):
        await SharedBundles(wire).send(ours, [], 101, 132)
    with pytest.raises(RpcError, match="unknown hint"):
        await SharedBundles(wire, ["everything"]).send(ours, [], 101, 102)
    stranger = RelayWire("share", stand_in.url, None, timeout=0.2)
    crowd.stack.push_async_callback(stranger.close)
    with pytest.raises(RpcError):
        await SharedBundles(stranger).send(ours, [], 101, 102)
    assert stand_in.held == 0


async def test_only_who_can_back_run_gets_what_stands_behind_another(crowd: Crowd) -> None:
    share, plain = await crowd.stand_in(), await crowd.stand_in()
    scores = Scores(["share", "plain"])
    flow = PrivateFlow(
        [
            Route(SharedBundles(crowd.wire("share", share)), 2, backruns=True),
            Route(Bundles(crowd.wire("plain", plain)), 2),
        ],
        scores,
        0,
    )
    crowd.stack.push_async_callback(flow.close)
    ours, alone = await signed(0, behind()), await signed(1)
    assert flow.backruns
    assert await flow.hand_over(ours, [], 100) == (Answer.ACCEPTED, "")
    assert (share.held, plain.held) == (1, 0)
    assert flow.until(ours.hash) == 102
    assert not flow.wants(ours.hash, 101, behind=True)
    assert flow.wants(ours.hash, 102, behind=True)
    flow.ended(ours.hash, 102)
    assert (scores.of("share").won, scores.of("plain").won) == (1, 0)
    await flow.hand_over(alone, [], 100)
    flow.keep(alone, [], 100)
    await asyncio.sleep(0.1)
    assert (share.held, plain.held) == (2, 2), "what stands alone goes to all"
