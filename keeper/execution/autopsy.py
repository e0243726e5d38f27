"""Why a mined transaction failed."""

from collections.abc import Callable, Mapping
from typing import Any

from keeper.chain.parse import quantity
from keeper.errors import RpcError, TransientError
from keeper.ports import Rpc
from keeper.types import OUTRUN, Signed
from keeper.units import to_hex


async def revert_reason(
    rpc: Rpc,
    signed: Signed,
    receipt: Mapping[str, Any],
    timestamp: int,
    explain: Callable[[bytes], str],
) -> str:
    """Run a reverted transaction again on its parent block's state and name the reason.

    What holds there is run on its own block's as well: who was faster left nothing, what fails for
    no such reason still holds.
    """
    if _ran_out(signed, receipt):
        return f"out of gas: used all of {signed.plan.gas_limit}"
    block = quantity(receipt["blockNumber"])
    transaction = {
        "from": to_hex(signed.sender),
        "to": to_hex(signed.plan.contract),
        "input": to_hex(signed.plan.calldata),
        "gas": hex(signed.plan.gas_limit),
    }
    overrides = {"number": hex(block), "time": hex(timestamp)}
    try:
        await rpc.request("eth_call", [transaction, hex(block - 1), {}, overrides])
    except RpcError as error:
        return error.message if error.data is None else explain(error.data)
    except TransientError as error:
        return f"not known: {error}"
    try:
        await rpc.request("eth_call", [transaction, hex(block), {}, overrides])
    except RpcError as error:
        return OUTRUN if error.data is not None else f"not known: {error.message}"
    except TransientError as error:
        return f"not known: {error}"
    return "it holds on the states before and after its block: it fails on the chain only"


def _ran_out(signed: Signed, receipt: Mapping[str, Any]) -> bool:
    """Whether (nearly) all the gas given was used: a nested call may leave its 64th."""
    return quantity(receipt["gasUsed"]) * 64 >= signed.plan.gas_limit * 63
