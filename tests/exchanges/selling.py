"""A keeper whose best price is on another exchange: owner, doctor, crash, sale, gas."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.operator import Operator, write_settings
from keeper.doctor.permissions import check_permissions, missing
from keeper.planning.grouping import share_gas
from keeper.types import Included, Plan
from keeper.units import Address
from tests.line import Play, assert_clean
from tests.uniswap import DirectRpc


async def sell_elsewhere(
    net: Devnet,
    operator: Operator,
    home: Path,
    venue: str,
    table: str,
    address: Address,
    topics: Sequence[bytes],
    *,
    measured: bool = True,
    lends: bool = False,
) -> Plan:
    """Liquidate a crowd and assert that all it gave was sold on one venue, at the modelled gas.

    `table` is the venue's settings; it leaves a log with `topics` at `address` for each sale. The
    owner makes exactly the calls that the doctor finds missing, for flash loans too where it `lends`.
    Without `measured` the gas is not compared: a stand-in's is not its venue's.
    """
    crowd = net.borrowers(3, health=(1.01, 1.04), seed=3)
    # The keeper loads below the head, and the exchange has to stand there already.
    net.mine(20)
    text = f"[chains.devnet.venues.{venue}]\n{table}"
    settings = load([write_settings(net, operator, home, extra=text)]).settings
    chain, rpc = settings.chains["devnet"], DirectRpc(net)
    lacking = await missing(rpc, chain, operator.contract, ())
    uses = ["swaps", "flash loans"] if lends else ["swaps"]
    assert [each.what for each in lacking] == [f"allow {use} on venue {venue}" for use in uses]
    found = await check_permissions(rpc, chain, operator.contract)
    assert f"not yet allow swaps on venue {venue}" in found[1]
    for each in lacking:
        send(net, operator, each.data)
    assert await missing(rpc, chain, operator.contract, ()) == []
    async with staged(net, settings, live=True) as stage:
        play = Play(stage)
        # The other exchange keeps the price from before the fall, which the V3 pools follow.
        await stage.step(lambda: net.set_price("WETH", net.price("WETH") * 95 // 100))
        assert play.under(crowd) == set(crowd)
        before = await asyncio.to_thread(net.chain.block_number)
        await stage.mine(2)
        ((plan, used),) = [
            (event.fields["plan"], event.fields["receipt"])
            for event in stage.events
            if event.name == "plan.included"
        ]
        play.assert_taken(crowd)
        assert_clean(play.tally)
        assert await play.audit() == []
        asked = {
            "fromBlock": hex(before),
            "address": "0x" + address.hex(),
            "topics": ["0x" + topic.hex() for topic in topics],
        }
        sales: list[Any] = await asyncio.to_thread(net.rpc, "eth_getLogs", asked)
    assert isinstance(plan, Plan)
    assert isinstance(used, Included)
    routes = [[hop.venue for hop in quote.hops] for quote in plan.quotes]
    assert routes == [[venue]] * len(crowd), routes
    assert {bytes.fromhex(sale["transactionHash"][2:]) for sale in sales} == {used.tx_hash}
    modelled = sum(share_gas([list(plan.quotes)]))
    print(f"{venue}: {used.gas_used} gas, {modelled} by the model")
    assert not measured or abs(modelled - used.gas_used) * 10 < used.gas_used
    return plan


def send(net: Devnet, operator: Operator, data: bytes) -> None:
    parts = {"from": operator.owner, "to": operator.contract, "data": data}
    request = {key: "0x" + value.hex() for key, value in parts.items()}
    net.rpc("anvil_setBalance", request["from"], hex(10**18))
    net.rpc("anvil_impersonateAccount", request["from"])
    net.rpc("eth_sendTransaction", request)
    net.mine()
