"""Morpho Blue: a screen over hundreds of its markets, folding, and gas beside a bare liquidation."""

import asyncio
import random
import tempfile
from functools import partial
from pathlib import Path

from keeper.chain.words import topic, word
from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.morpho import PARAMS
from keeper.protocols.morpho_blue import MorphoBlue
from keeper.protocols.morpho_blue.accounts import key_of, pack
from keeper.protocols.morpho_blue.ledger import Ledger, Terms, Totals
from keeper.types import Log, NextBlock, Prices, Token
from keeper.units import WAD, Address, Hash, Wei
from tests.bench.market import folded_us, screened_ms
from tests.chain.test_morpho_line import fall, opened, playing
from tests.morpho import deployed

BORROWERS = 100_000
MARKETS = 300
LOGS = 20_000
START = 1_700_000_000
AT = NextBlock(2, START + 12, Wei(1))
MORPHO = Address(b"\xee" * 20)
CALL = f"liquidate({PARAMS},address,uint256,uint256,bytes)"


def crowded() -> tuple[MorphoBlue, Prices]:
    """Return a deployment with a crowd, all at a health of 1.05 to 2, and its prices."""
    draw = random.Random(1)
    config = MorphoBlue.Config(morpho=MORPHO, prices=MORPHO)
    market, ledger = MorphoBlue("morpho", config), Ledger("morpho")
    values: dict[Address, int] = {}
    for number in range(MARKETS):
        identity = Hash(number.to_bytes(32, "big"))
        loan, collateral = (Address(bytes([kind]) * 19 + bytes([number % 8])) for kind in (1, 2))
        ledger.create(identity, Terms(loan, collateral, MORPHO, Address(b"\xdd" * 20), 86 * 10**16))
        pool = ledger.pools[identity]
        pool.adaptive = True
        pool.loan, pool.collateral = Token(loan, "USDC", 6), Token(collateral, "WETH", 18)
        values[Address(identity)], values[loan] = 2_000 * 10**24, 10**8
    owed = [0] * MARKETS
    for each in range(BORROWERS):
        pool = ledger.numbered[draw.randrange(MARKETS)]
        assets = round(2_000 * 10**6 * 0.86 / draw.uniform(1.05, 2))
        owed[pool.number] += assets
        key = key_of(pool.number, Address(each.to_bytes(20, "big")))
        ledger.put(pool, key, pack(WAD, assets * 10**6))
    for pool, assets in zip(ledger.numbered, owed, strict=True):
        supply, at_target = assets * 10 // 9, 4 * WAD // 100 // 31_536_000
        pool.totals = Totals(supply, supply * 10**6, assets, assets * 10**6, START, 0, at_target)
    market._follow(ledger)
    return market, Prices("morpho", 10**8, values)


def figures(net: Devnet) -> dict[str, float]:
    """Print screen, fold and gas figures; return them."""
    market, prices = crowded()
    interest, screen = screened_ms(market, prices, AT)
    fold = folded_us(market, folded())
    print(
        f"morpho: {MARKETS} markets, {BORROWERS:,} borrowers: interest {interest:.2f} ms, "
        f"pass {screen:.2f} ms; fold {fold:.2f} us a log"
    )
    found = {
        "morpho_interest_ms": interest,
        "morpho_pass_ms": screen,
        "morpho_fold_us": fold,
    }
    return found | gas(net)


def folded() -> list[Log]:
    """Return logs of supplied collateral, a borrower and a market each."""
    draw, kind = random.Random(2), topic("SupplyCollateral(bytes32,address,address,uint256)")
    return [
        Log(
            MORPHO,
            (kind, word(draw.randrange(MARKETS)), word(9), word(draw.randrange(BORROWERS))),
            word(10**18),
            2,
            Hash(b"\2" * 32),
            number,
            timestamp=START + 12,
        )
        for number in range(LOGS)
    ]


def gas(net: Devnet) -> dict[str, float]:
    """Measure a bare call, and batches of 1 and 20, from the line's own receipts."""
    found: dict[str, float] = {}
    before = net.snapshot()
    morpho, market = deployed(net)
    (who,) = opened(net, morpho, market, 1)
    fall(net, morpho, [market], 6)
    shares = net.call(
        morpho.address, "position(bytes32,address)", [market.id, who], ["uint256"] * 3
    )[1]
    allowed = [morpho.address, 10**18]
    net.send(Cast.RIVAL, market.loan.address, "approve(address,uint256)", allowed)
    args = [market.params, who, 0, shares, b""]
    bare = net.send(Cast.RIVAL, morpho.address, CALL, args).gas_used
    net.revert(before)
    for count in (1, 20):
        before = net.snapshot()
        found[f"morpho_gas_{count}"] = asyncio.run(_taken(net, count))
        net.revert(before)
    print(
        f"morpho gas a liquidation: bare call {bare:,} (no sale), "
        + ", ".join(f"batch of {count}: {found[f'morpho_gas_{count}']:,.0f}" for count in (1, 20))
    )
    return found | {"morpho_gas_bare": bare}


async def _taken(net: Devnet, count: int) -> float:
    morpho, market = deployed(net)
    opened(net, morpho, market, count)
    with tempfile.TemporaryDirectory() as home:
        async with playing(net, Path(home), morpho) as play:
            await play.stage.step(partial(fall, net, morpho, [market], 6))
            await play.stage.mine(2)
            tally = play.count()
            assert tally.liquidations == count
            return tally.gas / count


if __name__ == "__main__":
    with Devnet.start() as chain:
        figures(chain)
