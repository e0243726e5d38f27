"""Node JSON becomes nouns, or an error that says so."""

from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from keeper.chain import bloom, entries, jsonrpc, parse
from keeper.chain.secrecy import SecretUrl
from keeper.errors import RpcError, TransientError
from keeper.types import Log, Watch
from keeper.units import Address, Hash
from tests.fake_chain import TOPIC, FakeChain, address


def test_a_header_and_its_logs_keep_every_field() -> None:
    chain = FakeChain()
    head = chain.mine(address(1), address(2))
    assert (head.number, head.gas_limit, head.base_fee) == (1, 60_000_000, 10**9)
    assert head.parent == chain.header(0).hash
    logs = chain.logs(1, Watch(frozenset({address(1), address(2)}), frozenset({TOPIC})))
    assert [(log.address, log.index, log.topics) for log in logs] == [
        (address(1), 0, (TOPIC,)),
        (address(2), 1, (TOPIC,)),
    ]
    assert all(log.block_hash == head.hash and len(log.tx_hash) == 32 for log in logs)


@pytest.mark.parametrize("header", [None, {}, {"number": "x"}, {"number": "0x1", "hash": 5}])
def test_a_malformed_header_is_an_error(header: Any) -> None:
    with pytest.raises(TransientError, match="malformed header"):
        parse.head(header)


@pytest.mark.parametrize("answer", [None, "0x", [{"address": "0x01"}]])
def test_malformed_logs_are_an_error(answer: Any) -> None:
    with pytest.raises(TransientError):
        parse.logs(answer)


WHOLE = {
    "address": "0x" + "11" * 20,
    "topics": ["0x" + "22" * 32, "0x" + "33" * 32],
    "data": "0x" + "44" * 7,
    "blockNumber": "0x10",
    "blockHash": "0x" + "55" * 32,
    "transactionHash": "0x" + "66" * 32,
    "logIndex": "0x2",
}


def test_logs_are_read_whole_and_put_in_order() -> None:
    later = WHOLE | {"blockNumber": "0x11", "logIndex": "0x0"}
    earlier = WHOLE | {"logIndex": "0x1"}
    logs = parse.logs([later, WHOLE, earlier])
    assert [(log.block_number, log.index) for log in logs] == [(16, 1), (16, 2), (17, 0)]
    assert logs[1] == Log(
        Address(b"\x11" * 20),
        (b"\x22" * 32, b"\x33" * 32),
        b"\x44" * 7,
        16,
        Hash(b"\x55" * 32),
        2,
        Hash(b"\x66" * 32),
    )
    assert logs[1].at(99) == logs[1]._replace(timestamp=99)


def test_each_log_keeps_its_own_topics_however_many() -> None:
    words = ["0x" + f"{number:064x}" for number in range(1, 11)]
    shapes = [words[:4], [], words[4:5], words[5:7], words[7:10]]
    entries = [
        WHOLE | {"topics": topics, "logIndex": hex(1_022 + place)}
        for place, topics in enumerate(shapes)
    ]
    logs = parse.logs(entries)
    told = [["0x" + topic.hex() for topic in log.topics] for log in logs]
    assert (told, [log.index for log in logs]) == (shapes, list(range(1_022, 1_027)))
    assert parse.logs([WHOLE | {"topics": []}])[0].topics == ()


@pytest.mark.parametrize(
    "change",
    [
        {"address": "0x" + "11" * 19},
        {"address": None},
        {"topics": ["0x" + "22" * 31]},
        {"topics": ["0x" + "2g" * 32]},
        {"topics": ["0x" + "22" * 33, "0x" + "22" * 31]},
        {"topics": ["22" * 33]},
        {"topics": ["0x" + "22" * 33, "22" * 32]},
        {"topics": ["0x" + "22" * 32, None]},
        {"topics": None},
        {"data": "0x123"},
        {"data": 7},
        {"blockNumber": "ten"},
        {"blockNumber": None},
        {"blockHash": "0x"},
        {"logIndex": ""},
        {"transactionHash": "0x" + "66" * 33},
    ],
)
def test_one_bad_field_refuses_the_whole_answer(change: dict[str, Any]) -> None:
    with pytest.raises(TransientError, match="malformed log"):
        parse.logs([WHOLE, WHOLE | change])
    for missing in WHOLE:
        with pytest.raises(TransientError, match="malformed log"):
            parse.logs([{key: value for key, value in WHOLE.items() if key != missing}])


@pytest.mark.parametrize(
    ("answer", "is_typed"),
    [
        ({"id": 1, "result": [WHOLE, WHOLE | {"removed": False, "blockTimestamp": "0x1"}]}, True),
        ({"id": 1, "result": [WHOLE | {"removed": None}], "error": None}, True),
        ({"id": 1, "result": []}, True),
        ({"id": 1, "result": None}, False),
        ({"id": 1, "result": [WHOLE | {"topics": None}]}, False),
        ({"id": 1, "result": [WHOLE], "error": {"code": 1, "message": "no"}}, False),
        ({"id": 1, "error": {"code": -32005, "message": "limit"}}, False),
    ],
)
def test_an_answer_means_the_same_whether_it_is_read_as_logs_or_as_any_other(
    answer: dict[str, Any], is_typed: bool
) -> None:
    def told(*, is_logs: bool) -> list[Log] | str:
        decoded = jsonrpc.decode(text, is_logs=is_logs)
        try:
            return parse.logs(jsonrpc.result("eth_getLogs", decoded))
        except (RpcError, TransientError) as error:
            return str(error)

    text = orjson.dumps(answer)
    assert (entries.answer(text) is not None) == is_typed
    assert told(is_logs=True) == told(is_logs=False)


def test_what_is_no_json_is_said_to_be_none() -> None:
    for text in (b"{", b"\xff", b"[]", b'{"id":1,"result":[{"data":"\xff"}]}'):
        with pytest.raises(TransientError, match="no JSON"):
            jsonrpc.decode(text, is_logs=True)


@given(
    present=st.sets(st.binary(min_size=20, max_size=20), max_size=40),
    watched=st.sets(st.binary(min_size=20, max_size=20), max_size=40),
)
def test_the_bloom_never_excludes_what_is_in_the_block(
    present: set[bytes], watched: set[bytes]
) -> None:
    bits = bloom.mask(TOPIC)
    for each in present:
        bits |= bloom.mask(each)
    everything = frozenset(Address(each) for each in present | watched)
    admitted = bloom.narrow(Watch(everything, frozenset({TOPIC})), bits.to_bytes(256, "big"))
    assert present <= admitted.addresses <= everything


def test_a_bloom_without_the_topic_excludes_the_address_too() -> None:
    bits = bloom.mask(address(1)).to_bytes(256, "big")
    watch = Watch(frozenset({address(1)}), frozenset({TOPIC}))
    assert bloom.matches_nothing(bloom.narrow(watch, bits))
    assert bloom.narrow(watch, b"") is watch


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("0x930bb771", "930bb771"),
        ({"data": "0x08c379a0"}, "08c379a0"),
        ("Reverted 0x930bb771", "930bb771"),
        ("0x", ""),
    ],
)
def test_revert_bytes_are_found_in_every_shape(data: object, expected: str) -> None:
    with pytest.raises(RpcError) as raised:
        jsonrpc.result("eth_call", {"error": {"code": 3, "message": "reverted", "data": data}})
    assert raised.value.data == bytes.fromhex(expected)


@pytest.mark.parametrize("data", [None, 7, "no hex", "0xzz", {}])
def test_an_error_without_revert_bytes_has_none(data: object) -> None:
    assert jsonrpc.revert_data(data) is None


@pytest.mark.parametrize(
    "method", ["eth_sendRawTransaction", "eth_sendBundle", "eth_getFilterChanges", "evm_mine", "x"]
)
def test_what_may_change_something_is_never_repeatable(method: str) -> None:
    assert not jsonrpc.is_repeatable(method)


@pytest.mark.parametrize("method", ["eth_call", "eth_getLogs", "eth_simulateV1", "eth_chainId"])
def test_reads_are_repeatable(method: str) -> None:
    assert jsonrpc.is_repeatable(method)


def test_a_url_shows_no_part_that_could_be_a_key() -> None:
    url = SecretUrl("https://user:passw0rd99@node.example/v2/s3cretkey123?token=abcdefgh12")
    told = url.redact(f"cannot reach {url.reveal()} with s3cretkey123, abcdefgh12, passw0rd99")
    for secret in ("s3cretkey123", "abcdefgh12", "passw0rd99"):
        assert secret not in told + repr(url)
