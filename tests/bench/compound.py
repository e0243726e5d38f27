"""Compound V2: a screen over a crowd of borrowers, folding, and gas beside a bare liquidation."""

import asyncio
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from keeper.chain.words import word
from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.venus import deploy_venus
from keeper.protocols.compound_v2 import CompoundV2, events
from keeper.protocols.compound_v2.bootstrap import Deployment
from keeper.protocols.compound_v2.ctoken import CToken, Terms
from keeper.protocols.compound_v2.ledger import CORE, Ledger
from keeper.types import Included, Log, NextBlock, Prices, Token
from keeper.units import WAD, ZERO_ADDRESS, Address, Hash, Wad, Wei
from tests.bench.market import ROUNDS, folded_us, screened_ms
from tests.chain.test_compound_line import opened, playing

BORROWERS = 100_000
CTOKENS = 40
LOGS = 20_000
AT = NextBlock(2, 1_700_000_012, Wei(1))
COMPTROLLER = Address(b"\xee" * 20)
CALL = "liquidateBorrow(address,address,uint256,address)"


def crowded() -> tuple[CompoundV2, Prices]:
    """Return a market with a crowd, all at a health of 1.05 to 2, and its prices."""
    draw, ledger = random.Random(1), Ledger("venus", close_factor=WAD // 2)
    values: dict[Address, int] = {}
    for number in range(CTOKENS):
        asset = Token(Address(b"\1" * 19 + bytes([number])), "T", 18)
        token = Token(Address(b"\2" * 19 + bytes([number])), "vT", 8, asset.address)
        made = CToken(number, token, asset, False, WAD, 0, 1)
        made.cash, made.supply, made.reserves, made.rate = 2 * 10**26, 10**16, 0, 10**9
        ledger.list_ctoken(made)
        ledger.set_terms(made, CORE, Terms(Wad(8 * WAD // 10), Wad(11 * WAD // 10)))
        values[asset.address] = 10**36
    for each in range(BORROWERS):
        who = Address(each.to_bytes(20, "big"))
        held, owed = draw.sample(ledger.ctokens, 2)
        ledger.set_balance(who, held, 10**10)
        ledger.entered[who] = 1 << held.id | 1 << owed.id
        ledger.set_debt(who, owed, (round(160 * WAD / draw.uniform(1.05, 2)), WAD))
    none = ZERO_ADDRESS
    market = CompoundV2("venus", Deployment(COMPTROLLER, none, none, none, ()))
    market._ledger = ledger
    return market, Prices("venus", 10**36, values)


def figures(net: Devnet) -> Mapping[str, float]:
    """Print screen, fold and gas figures; return them."""
    market, prices = crowded()
    factors, screen = screened_ms(market, prices, AT)
    freezes = []
    for freeze in (market.all_legs, market.snapshot) * ROUNDS:
        started = time.thread_time()
        freeze()
        freezes.append(1000 * (time.thread_time() - started))
    fold = folded_us(market, folded(market))
    print(
        f"compound: {CTOKENS} cTokens, {BORROWERS:,} borrowers: factors {factors:.2f} ms, "
        f"pass {screen:.2f} ms; fold {fold:.2f} us a log, frozen in {median(freezes):.2f} ms"
    )
    found = {
        "compound_factors_ms": factors,
        "compound_pass_ms": screen,
        "compound_fold_us": fold,
        "compound_freeze_ms": median(freezes),
    }
    return found | gas(net)


def folded(market: CompoundV2) -> list[Log]:
    """Return logs of repaid debts, a borrower and a cToken each."""
    draw, borrowers = random.Random(2), list(market._ledger.owing)
    ctokens = [each.address for each in market._ledger.ctokens]
    return [
        Log(
            draw.choice(ctokens),
            (events.REPAY,),
            word(COMPTROLLER) + word(draw.choice(borrowers)) + word(1) + word(WAD) + word(10**24),
            2,
            Hash(b"\2" * 32),
            number,
            timestamp=1_700_000_012,
        )
        for number in range(LOGS)
    ]


def gas(net: Devnet) -> dict[str, float]:
    """Measure a bare call of Venus' liquidator, and batches of 1 and 20, from the line's receipts."""
    found: dict[str, float] = {}
    before = net.snapshot()
    venus = deploy_venus(net.chain, net.market, print)
    (who,) = opened(net, venus, 1)
    net.set_price("WETH", net.price("WETH") * 95 // 100)
    token = net.tokens["USDC"].address
    net.give("USDC", Cast.RIVAL, 10**12)
    net.send(Cast.RIVAL, token, "approve(address,uint256)", [venus.liquidator, 10**12])
    args = [venus.vtokens["USDC"], who, 5_000 * 10**6, venus.vtokens["WETH"]]
    found["compound_gas_bare"] = net.send(Cast.RIVAL, venus.liquidator, CALL, args).gas_used
    net.revert(before)
    for count in (1, 20):
        before = net.snapshot()
        found[f"compound_gas_{count}"] = asyncio.run(_taken(net, count))
        net.revert(before)
    print(
        f"compound gas a liquidation: bare call {found['compound_gas_bare']:,.0f} (no sale), "
        + ", ".join(f"batch of {n}: {found[f'compound_gas_{n}']:,.0f}" for n in (1, 20))
    )
    return found


async def _taken(net: Devnet, count: int) -> float:
    venus = deploy_venus(net.chain, net.market, print)
    opened(net, venus, count)
    with tempfile.TemporaryDirectory() as home:
        async with playing(net, Path(home), venus) as play:
            await play.stage.step(lambda: net.set_price("WETH", net.price("WETH") * 95 // 100))
            await play.stage.mine(2)
            receipts = [event.fields.get("receipt") for event in play.stage.events]
    used = sum(each.gas_used for each in receipts if isinstance(each, Included))
    return used / count
