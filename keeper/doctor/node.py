"""Checks of a chain's endpoints."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from keeper.chain.endpoint import Endpoint, connect
from keeper.chain.multicall import MULTICALL3
from keeper.chain.reader import ChainReader
from keeper.chain.words import answered, read, uint
from keeper.config import Chain
from keeper.doctor.check import Finding, State
from keeper.errors import ConfigError, KeeperError, RpcError
from keeper.types import Head
from keeper.units import to_hex

_TIMEOUT = 5.0
_METHOD_NOT_FOUND = -32601


@dataclass(frozen=True, slots=True)
class Answer:
    """What one endpoint said; `error` is set when it did not."""

    alias: str
    chain_id: int = 0
    head: Head | None = None
    error: str = ""


async def dial(chain: Chain, stack: AsyncExitStack) -> list[Endpoint]:
    """Return the chain's endpoints, closed with the stack."""
    return [
        await stack.enter_async_context(
            connect(each.url.get_secret_value(), each.alias, timeout=_TIMEOUT, attempts=2)
        )
        for each in chain.endpoints
    ]


async def ask(endpoint: Endpoint) -> Answer:
    """Ask an endpoint for its chain id and its head."""
    try:
        chain_id = int(await endpoint.request("eth_chainId", []), 16)
        head = await ChainReader(endpoint).head()
    except (KeeperError, TypeError, ValueError) as error:
        return Answer(endpoint.alias, error=str(error) or type(error).__name__)
    return Answer(endpoint.alias, chain_id, head)


async def ask_all(endpoints: Sequence[Endpoint]) -> list[Answer]:
    """Ask every endpoint at once."""
    return list(await asyncio.gather(*(ask(endpoint) for endpoint in endpoints)))


def judge_endpoints(answers: Sequence[Answer], chain_id: int) -> Finding:
    """Judge who answers and for which chain; each must serve the chain that is configured."""
    reached = [answer for answer in answers if not answer.error]
    silent = [answer for answer in answers if answer.error]
    if not reached:
        raise ConfigError(
            f"no endpoint answers: {'; '.join(answer.error for answer in silent)}",
            "check the endpoint's address and key, and that the node runs",
        )
    for answer in reached:
        if answer.chain_id != chain_id:
            raise ConfigError(
                f"{answer.alias} serves chain id {answer.chain_id}, "
                f"the configuration says {chain_id}",
                "mend chain_id or the endpoint",
            )
    heads = [answer.head.number for answer in reached if answer.head is not None]
    said = f"{len(reached)}/{len(answers)} answer at block {max(heads)}"
    if max(heads) > min(heads):
        said += f", spread {max(heads) - min(heads)}"
    if silent:
        names = ", ".join(answer.alias for answer in silent)
        return State.WARN, f"{said}; silent: {names}", "mend or remove it"
    return State.OK, said, ""


def judge_head(head: Head, now: float, block_time: int) -> Finding:
    """Judge the age of the newest head."""
    age = now - head.timestamp
    if age > max(60, 5 * block_time):
        return State.WARN, f"the newest block is {_span(age)} old", "is the node in sync?"
    return State.OK, f"block {head.number}, {max(age, 0):.0f} s old", ""


def _span(seconds: float) -> str:
    """Show a time in the largest unit it fills twice."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


async def check_simulation(endpoint: Endpoint) -> Finding:
    """Look whether the node simulates a batch as the next block would run it."""
    try:
        await endpoint.request("eth_simulateV1", [{"blockStateCalls": [{"calls": []}]}, "latest"])
    except RpcError as error:
        if error.code != _METHOD_NOT_FOUND:
            return State.OK, "supported", ""
        return State.WARN, "not supported: eth_call is used", "a node that has it is more exact"
    return State.OK, "supported", ""


async def check_multicall(reader: ChainReader, chain: Chain) -> Finding:
    """Look for Multicall3, on which every read stands."""
    is_usual = chain.multicall == MULTICALL3
    hint = "check multicall; most chains have it at the default address"
    if not await reader.code(chain.multicall):
        raise ConfigError(
            f"Multicall3 has no code at {to_hex(chain.multicall)}",
            "check chain_id" if is_usual else hint,
        )
    try:
        (told,) = await reader.multicall([read(chain.multicall, "getChainId()")])
    except (ConfigError, RpcError):
        told = None
    if told is None or not answered(told) or uint(told.data) != chain.chain_id:
        raise ConfigError(f"{to_hex(chain.multicall)} is no Multicall3", hint)
    return State.OK, "answers", ""
