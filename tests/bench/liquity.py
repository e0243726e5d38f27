"""The Liquity V1 family: screen and fold figures, and gas beside bare calls of mUSD."""

import asyncio
import random
import tempfile
from pathlib import Path

from keeper.devnet import Devnet
from keeper.devnet.musd import Musd, deploy_musd
from keeper.protocols.liquity_v1 import LiquityV1
from keeper.protocols.liquity_v1.events import ADJUST, TROVE_UPDATED, Contracts
from keeper.protocols.liquity_v1.feed import coin_feed
from keeper.protocols.liquity_v1.ledger import Ledger, System, Trove
from keeper.protocols.liquity_v1.terms import Deployment
from keeper.types import Log, NextBlock, Prices, Token
from keeper.units import WAD, Address, Hash, Wei
from tests.bench.market import folded_us, screened_ms
from tests.musd import open_pool, owner, playing_musd

TROVES = 20_000
LOGS = 20_000
START = 1_700_000_000
PRICE = 2_500 * WAD
AT = NextBlock(2, START + 12, Wei(1))
NAMES = tuple(Address(bytes([number]) * 20) for number in range(1, 13))


def crowded() -> tuple[LiquityV1, Prices]:
    """Return a system with a crowd at a health of 1.05 to 2, and its prices."""
    draw = random.Random(1)
    coin, debt = Token(NAMES[10], "WETH", 18), Token(NAMES[11], "MUSD", 18)
    deployment = Deployment(Contracts(*NAMES[:10]), coin, debt, 200 * WAD)
    market = LiquityV1("musd", deployment, coin_feed("musd", NAMES[7], NAMES[10], NAMES[11]))
    ledger = Ledger("musd", system=System(rate=100))
    for each in range(TROVES):
        principal = draw.randrange(2_000, 90_000) * WAD
        coins = round(principal * draw.uniform(1.155, 2.2) / 2_500)
        trove = Trove(coins, principal, 0, coins, 100, START, 0, 0, 0)
        ledger.troves[Address(each.to_bytes(20, "big"))] = trove
    ledger.look_ahead(START)
    market._follow(ledger)
    return market, Prices("musd", WAD, {NAMES[10]: PRICE, NAMES[11]: WAD})


def adjusted(market: LiquityV1) -> list[Log]:
    """Return logs of owners who put more collateral in."""
    draw, logs = random.Random(2), []
    operations = market._deployment.contracts.operations
    troves = list(market._ledger.troves.items())
    for index in range(LOGS):
        who, trove = draw.choice(troves)
        words = (trove.principal, 0, trove.collateral + index, trove.stake, ADJUST)
        data = b"".join(word.to_bytes(32, "big") for word in words)
        topics = (TROVE_UPDATED, who.rjust(32, b"\0"))
        logs.append(Log(operations, topics, data, 1, Hash(bytes(32)), index, timestamp=START))
    return logs


def figures(net: Devnet) -> dict[str, float]:
    """Print screen, fold and gas figures; return them."""
    market, prices = crowded()
    screen = sum(screened_ms(market, prices, AT))
    fold = folded_us(market, adjusted(market))
    print(f"liquity: {TROVES:,} troves: pass {screen:.2f} ms; fold {fold:.2f} us a log")
    return {"liquity_pass_ms": screen, "liquity_fold_us": fold} | gas(net)


def gas(net: Devnet) -> dict[str, float]:
    """Print the gas of a trove at 1 and 20, through the keeper and bare; return it."""
    found: dict[str, float] = {}
    for count in (1, 20):
        for way in ("keeper", "bare", "bare_batch"):
            before = net.snapshot()
            musd, troves = crash(net, count)
            if way == "keeper":
                each = asyncio.run(kept(net, musd))
            else:
                each = bare(net, musd, troves, batch=way == "bare_batch")
            found[f"liquity_gas_{way}_{count}"] = each
            net.revert(before)
    print(*(f"{name}: {value:,.0f}" for name, value in found.items()), sep="\n")
    return found


def crash(net: Devnet, count: int) -> tuple[Musd, list[bytes]]:
    """Open troves just above their ratio, with a pool that can pay for all."""
    musd, whale = deploy_musd(net.chain, PRICE), owner(0)
    net.rpc("anvil_setBalance", "0x" + whale.hex(), hex(10**23))
    musd.set_price(PRICE)
    net.chain.send_all([musd.opening(whale, 4_000 * WAD, 3_000_000 * WAD)])
    open_pool(net, musd, whale, PRICE, 1_000_000)
    musd.deposit(whale, 500_000 * WAD)
    troves = [owner(100 + number) for number in range(count)]
    coins = (12_012 + 200) * WAD * 113 * WAD // (100 * PRICE) + 1
    musd.set_price(PRICE)
    net.chain.send_all([musd.opening(each, coins, 12_000 * WAD) for each in troves])
    return musd, troves


async def kept(net: Devnet, musd: Musd) -> float:
    """Return the gas of each trove through the keeper."""
    with tempfile.TemporaryDirectory() as home:
        async with playing_musd(net, musd, Path(home)) as play:
            await play.stage.step(lambda: musd.set_price(PRICE * 96 // 100))
            await play.stage.mine(2)
            tally = play.count()
            return tally.gas / tally.liquidations


def bare(net: Devnet, musd: Musd, troves: list[bytes], *, batch: bool) -> float:
    """Return the gas of each trove by the protocol's own calls, from a wallet."""
    used = 0
    calls = (
        [("batchLiquidateTroves(address[])", [troves])]
        if batch
        else [("liquidate(address)", [each]) for each in troves]
    )
    for signature, args in calls:
        musd.set_price(PRICE * 96 // 100)
        mined = net.send(owner(99), musd.manager, signature, args, gas=16_000_000)
        used += mined.gas_used
    return used / len(troves)
