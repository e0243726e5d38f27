"""How a sweep of profit to the treasury ends, and what may be offered to get a stuck one mined."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from eth_hash.auto import keccak

from keeper.chain.parse import blob, logs, quantity
from keeper.execution.pricing import NATIVE_UNIT
from keeper.execution.recheck import Gone, Look
from keeper.execution.rollup import beside_gas
from keeper.types import Head, Holding, Included, Plan
from keeper.units import ZERO_ADDRESS, Hash, Usd, Wei, mul_div_down, mul_div_up

SWEPT = keccak(b"Swept(address,uint256)")
CONVERTED = keccak(b"Converted(address,address,uint256,uint256,uint256)")


def swept(
    plan: Plan, held: Holding, receipt: Mapping[str, Any], timestamp: int, gas_usd: Usd
) -> Included:
    """Book a sweep or a conversion: its gas is all it cost, what left the contract is no loss.

    Somebody else may have swept before: then nothing moved (liquidator.vy: sweep, convert).
    """
    conversion, refill = plan.conversion, 0
    topics: tuple[bytes, ...] = (SWEPT, bytes(12) + held.token.address)
    if conversion is not None:
        topics = (CONVERTED, topics[1], bytes(12) + conversion.receive.address)
    told = [
        [int.from_bytes(log.data[at : at + 32], "big") for at in range(0, len(log.data), 32)]
        for log in logs(receipt["logs"])
        if (log.address, log.topics) == (plan.contract, topics)
    ]
    amount = sum(words[0] for words in told)
    gains = {held.token.address: -amount} if amount else {}
    if conversion is not None and amount:
        refill = sum(words[2] for words in told)
        gains[conversion.receive.address] = sum(words[1] for words in told) - refill
    return Included(
        plan_id=plan.id,
        tx_hash=Hash(blob(receipt["transactionHash"])),
        block_number=quantity(receipt["blockNumber"]),
        block_hash=Hash(blob(receipt["blockHash"])),
        timestamp=timestamp,
        gas_used=quantity(receipt["gasUsed"]),
        gas_price=Wei(quantity(receipt["effectiveGasPrice"])),
        gains=gains,
        gas_cost_usd=gas_usd,
        net_usd=Usd(-gas_usd),
        refill=Wei(refill),
        data_fee=beside_gas(receipt),
    )


def value_usd_down(plan: Plan, held: Holding) -> Usd:
    """Return what a sweep moves in dollars, 0 when its token has no price."""
    price = plan.prices.get(held.token.address, 0)
    return Usd(mul_div_down(held.amount, price, 10**held.token.decimals))


def looking(look: Look, failing: Callable[[Plan, Head], Awaitable[Gone | None]]) -> Look:
    """Return a look that knows sweeps: their gas may rise to what they move, and no further.

    What waits behind one needs its nonce used, and it needs no simulation to be done still. A sale
    does: no more is offered for one that a pool would give too little for by now.
    """

    async def look_at(plan: Plan, head: Head) -> Plan | Gone | None:
        if plan.sweep is None:
            return await look(plan, head)
        if plan.conversion is not None and (gone := await failing(plan, head)):
            return gone
        gas = mul_div_up(plan.gas_cost, plan.prices[ZERO_ADDRESS], NATIVE_UNIT)
        return replace(plan, net_usd=Usd(value_usd_down(plan, plan.sweep) - gas))

    return look_at
