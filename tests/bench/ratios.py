"""Hot paths next to the common way of doing the same."""

import asyncio
import time
from collections.abc import Callable
from statistics import median

from eth_abi.abi import decode, encode
from eth_account import Account
from eth_utils.abi import function_signature_to_4byte_selector
from web3 import Web3

from keeper.chain.multicall import decode_aggregate3, encode_aggregate3
from keeper.chain.parse import log as parse_log
from keeper.execution.signer import KeySigner
from keeper.types import Call
from keeper.units import Address

KEY = bytes([0x11]) * 32
AGGREGATE3 = "aggregate3((address,bool,bytes)[])"


def seconds(work: Callable[[], object], rounds: int = 9) -> float:
    """Return the median time of a call."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return median(taken)


def multicall() -> dict[str, float]:
    """Pack and unpack 200 reads: against eth_abi."""
    calls = [Call(Address(bytes([n % 256]) * 20), bytes(36)) for n in range(200)]
    selector = function_signature_to_4byte_selector(AGGREGATE3)
    answer = encode(["(bool,bytes)[]"], [[(True, bytes(32)) for _ in calls]])

    def common() -> None:
        selector + encode(
            ["(address,bool,bytes)[]"], [[(call.target, True, call.data) for call in calls]]
        )
        decode(["(bool,bytes)[]"], answer)

    ours = seconds(lambda: (encode_aggregate3(calls), decode_aggregate3(answer)))
    return {"multicall_200_ms": ours * 1000, "multicall_200_vs_eth_abi": seconds(common) / ours}


def decoding() -> dict[str, float]:
    """Parse one log: against web3's `process_log`."""
    abi = {
        "anonymous": False,
        "inputs": [
            {"indexed": True, "name": "src", "type": "address"},
            {"indexed": True, "name": "dst", "type": "address"},
            {"indexed": False, "name": "wad", "type": "uint256"},
        ],
        "name": "Transfer",
        "type": "event",
    }
    topics = [
        "0x" + Web3.keccak(text="Transfer(address,address,uint256)").hex(),
        "0x" + "00" * 12 + "22" * 20,
        "0x" + "00" * 12 + "33" * 20,
    ]
    raw = {
        "address": "0x" + "11" * 20,
        "topics": topics,
        "data": "0x" + "00" * 31 + "07",
        "blockNumber": "0x10",
        "blockHash": "0x" + "44" * 32,
        "transactionHash": "0x" + "55" * 32,
        "transactionIndex": "0x0",
        "logIndex": "0x1",
        "removed": False,
    }
    event = Web3().eth.contract(abi=[abi]).events.Transfer()
    entry = {
        **raw,
        "blockNumber": 16,
        "logIndex": 1,
        "transactionIndex": 0,
        "topics": [bytes.fromhex(topic[2:]) for topic in topics],
        "data": bytes.fromhex(str(raw["data"])[2:]),
    }
    ours = seconds(lambda: [parse_log(raw) for _ in range(1000)])
    common = seconds(lambda: [event.process_log(entry) for _ in range(100)]) * 10
    return {"parse_log_us": ours * 1000, "parse_log_vs_process_log": common / ours}


def signing() -> dict[str, float]:
    """Sign one EIP-1559 transaction with 3 kB of data: against eth_account."""
    fields: dict[str, int | bytes] = {
        "chainId": 1,
        "nonce": 7,
        "maxPriorityFeePerGas": 10**8,
        "maxFeePerGas": 10**11,
        "gas": 5_000_000,
        "to": bytes([0x22]) * 20,
        "value": 0,
        "data": bytes(range(256)) * 12,
    }
    named = {**fields, "to": "0x" + "22" * 20, "type": 2, "data": bytes(fields["data"])}
    signer = KeySigner(KEY)

    async def ten() -> None:
        for _ in range(10):
            await signer.sign(fields)

    ours = seconds(lambda: asyncio.run(ten())) / 10
    common = seconds(lambda: Account.sign_transaction(named, KEY))
    return {"sign_ms": ours * 1000, "sign_vs_eth_account": common / ours}


def figures() -> dict[str, float]:
    """Return every ratio; above one, ours is faster."""
    return multicall() | decoding() | signing()


if __name__ == "__main__":
    for name, value in figures().items():
        print(f"{name:<34} {value:10.3f}")
