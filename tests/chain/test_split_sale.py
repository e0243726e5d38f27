"""A liquidation sold over two real pools of one pair in one transaction."""

from functools import partial
from pathlib import Path

from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.planning.routing import Sales
from keeper.types import Included, Plan
from keeper.units import WAD, Address
from keeper.venues.uniswap_v3 import UniswapV3
from tests.line import assert_clean, playing
from tests.uniswap import DirectRpc

SIZE = (1_500_000, 1_500_000)


async def test_a_large_sale_goes_over_two_pools_at_once(net: Devnet, tmp_path: Path) -> None:
    tokens = [Address(net.tokens[name].address) for name in ("WETH", "USDC")]
    venue = UniswapV3("uniswap", Address(net.uniswap.factory), tokens)
    reader = ChainReader(DirectRpc(net))
    async with playing(net, tmp_path) as play:
        opening = partial(net.borrowers, 1, health=(1.01, 1.02), size_usd=SIZE, seed=5)
        (who,) = await play.stage.step(opening)
        play.count()
        await play.stage.step(partial(net.set_price, "WETH", net.price("WETH") * 96 // 100))
        await venue.bootstrap(reader, await reader.head())
        await play.stage.mine(2)
        found = [event.fields for event in play.stage.events if event.name == "plan.included"]
        play.assert_taken([who])
        assert_clean(play.tally)
    ((plan, receipt),) = [(fields["plan"], fields["receipt"]) for fields in found]
    assert isinstance(plan, Plan)
    assert isinstance(receipt, Included)
    (quote,) = plan.quotes
    assert len({hop.pool for hop in quote.hops}) >= 2
    assert sum(portion.share for portion in quote.routes) == WAD
    (step,) = quote.steps
    realised = receipt.gains[quote.debt.address] + quote.repaid + quote.premium
    assert abs(realised - quote.proceeds) * 10_000 <= quote.proceeds
    alone = [
        Sales({venue.name: venue}).quote((hop,), step.seizure.received)
        for hop in venue.hops(tokens[0])
        if hop.token_out == tokens[1]
    ]
    print(f"split {realised / 1e6:,.2f}, alone {[each / 1e6 for each in alone]} dollars")
    assert len(alone) > 1
    assert realised > max(alone) + quote.gas_cost, "more than all its gas together"
