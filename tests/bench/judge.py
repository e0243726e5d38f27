"""A stage for judging plans: real markets drawn from seeds, and profits realised on the chain."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from keeper.chain import parse
from keeper.chain.reader import ChainReader
from keeper.devnet import Cast, Devnet, Market, Pool, PoolSpec
from keeper.devnet.arbitrage import EXACT_INPUT
from keeper.devnet.deploy_uniswap import sqrt_price
from keeper.devnet.operator import allow_market
from keeper.devnet.reserves import SECOND_EMODES, SECOND_RESERVES
from keeper.planning.encoding import (
    Batch,
    Check,
    Fund,
    FundKind,
    Group,
    Item,
    Minimum,
    Swap,
    encode_run,
    share_of_gain,
)
from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.strategist import Choice
from keeper.types import Bid, Cause, Limits, Log, NextBlock, Opportunity, Plan, Token, View
from keeper.units import WAD, Address, Usd, Wei
from keeper.venues.uniswap_v3 import UniswapV3
from tests.aave import DirectRpc, Following
from tests.brute.curves import Ticked
from tests.brute.debtor import BPS, Debtor
from tests.chain.contract.stage import FAR, Stage, deploy

GWEI = 10**9
BURN = "decreaseLiquidity((uint256,uint128,uint256,uint256,uint256))"
POSITION = ["uint96", "address", "address", "address", "uint24", "int24", "int24", "uint128"]
PAIRED = (
    PoolSpec("LINK", "USDC", 500, 20_000_000),
    PoolSpec("LINK", "USDC", 3000, 20_000_000),
)
"""The only two pools of the small market."""
_ITEM_GAS = 900_000
_SIZES = ((1_500, 6_000), (6_000, 40_000), (40_000, 300_000), (300_000, 3_000_000))
_HEALTH = (1.005, 1.1)


@dataclass(frozen=True)
class Scene:
    """One Aave market and pair with its borrowers, the pools sold through and what follows them."""

    name: str
    market: Market
    following: Following
    venue: UniswapV3
    pools: tuple[Pool, ...]
    collateral: str
    debt: str
    crowd: tuple[bytes, ...]
    max_hops: int


@dataclass(frozen=True)
class Drawn:
    """A market as a seed drew it: who is under water, at which gas price (wei)."""

    scene: Scene
    seed: int
    view: View
    choices: tuple[Choice, ...]
    gas_price: int
    debtors: tuple[Debtor, ...]

    @property
    def borrowers(self) -> tuple[Address, ...]:
        """Return who is to be liquidated."""
        return tuple(each.opportunity.position.borrower for each in self.choices)

    @property
    def gas_unit(self) -> float:
        """Return what one unit of gas costs in debt-token wei."""
        prices = self.scene.following.prices
        debt = self.scene.market.tokens[self.scene.debt]
        native, price = prices.get(self.view.native.address), prices.get(Address(debt.address))
        assert native
        assert price
        return float(self.gas_price * native * 10**debt.decimals / price / WAD)


class Judge:
    """One chain with a liquidator, two markets and crowds; every look leaves it as it was."""

    def __init__(self, net: Devnet) -> None:
        self.net = net
        self.stage: Stage = deploy(net)
        second = net.deploy_market(
            "Judged", SECOND_RESERVES, SECOND_EMODES, PAIRED, flash_premium=5
        )
        allow_market(net, self.stage.address, self.stage.owner, second)
        self._minted = self._positions()
        main = [("WETH", "USDC"), ("WBTC", "USDC")]
        crowds = [
            (market, a, b, self._crowd(market, a, b))
            for market, a, b in [*((net.market, a, b) for a, b in main), (second, "LINK", "USDC")]
        ]
        pools = net.uniswap.pools
        wide = self._follow(net.market), self.venue(net.market, *net.tokens)
        narrow = self._follow(second), self.venue(second, "LINK", "USDC")
        self.scenes = tuple(
            Scene(
                f"{a}/{b}",
                market,
                *(narrow if market is second else wide),
                pools[-2:] if market is second else pools[:-2],
                a,
                b,
                crowd,
                1 if market is second else 3,
            )
            for market, a, b, crowd in crowds
        )

    @contextmanager
    def drawn(self, scene: Scene, seed: int, most: int) -> Iterator[Drawn]:
        """Draw a market: depths, pool prices, the fall of the collateral, who falls, the gas price."""
        rng = random.Random(f"{scene.name} {seed}")
        before, height = self.net.snapshot(), self.net.chain.block_number()
        undos = []
        try:
            self._thin(scene, rng)
            self._move(scene, rng)
            following = scene.following
            following.head = following.run(following.reader.head())
            following.observe()
            for log in self._logs(scene, height + 1):
                undo = scene.venue.fold(log)
                if undo is not None:
                    undos.append(undo)
            yield self._seen(scene, seed, rng, most)
        finally:
            for undo in reversed(undos):
                undo()
            self.net.revert(before)

    def planned(self, drawn: Drawn, calls: int = 1) -> list[Plan]:
        """Return what the planner makes of a market with so many calls on a position at most."""
        planner = self.planner(drawn.scene)
        choices = [
            replace(each, limits=replace(each.limits, calls=calls)) for each in drawn.choices
        ]
        quotes, _ = planner.quote(drawn.view, choices)
        bid = Bid(Wei(0), Wei(2 * drawn.gas_price), FAR)
        plans, _ = planner.pack(drawn.view, [(quote, bid) for quote in quotes])
        return plans

    def planner(self, scene: Scene) -> Planner:
        """Return a planner of a scene."""
        rules = PlanRules(
            "devnet", self.stage.address, Wei(0), max_hops=scene.max_hops, toxic_parts=True
        )
        venue, market = scene.venue, scene.following.market
        return Planner(rules, {venue.name: venue}, {market.market: market}, lambda: "plan")

    def batch(
        self,
        drawn: Drawn,
        covers: Sequence[Sequence[int]],
        parts: Sequence[tuple[int, int]],
        *,
        late: bool = True,
    ) -> bytes:
        """Return a transaction that makes these calls and sells parts through pools of these fees.

        Covers that close something are sent with a margin for interest, unless nothing is `late`.
        """
        scene = drawn.scene
        tokens = scene.market.tokens
        collateral, debt = (
            Address(tokens[name].address) for name in (scene.collateral, scene.debt)
        )
        items = tuple(
            Item(who, _late(debtor, cover) if late else cover, minimum_debt=1)
            for who, debtor, calls in zip(drawn.borrowers, drawn.debtors, covers, strict=True)
            for cover in calls
        )
        factory = Address(self.net.uniswap.factory)
        used = [(fee, part) for fee, part in parts if part]
        actions = []
        left = sum(part for _, part in used)
        for fee, part in used[:-1]:
            share = share_of_gain(part * WAD // left)
            actions.append(Swap(factory, fee, collateral, debt, share))
            left -= part
        actions.append(Swap(factory, used[-1][0], collateral, debt))
        pool = Address(scene.market.pool)
        gas = 1_500_000 + _ITEM_GAS * len(items)
        owed_token = Address(tokens[scene.debt].v_token)
        group = Group(
            pool, collateral, debt, items, tuple(actions), _ITEM_GAS, gas, owed_token, Check.SCALED
        )
        fund = Fund(FundKind.AAVE, debt, sum(item.repay for item in items), pool)
        return encode_run(Batch(FAR, (collateral, debt), (group,), (fund,), (Minimum(debt, 1),)))

    def realised(self, drawn: Drawn, calldatas: Sequence[bytes]) -> float:
        """Return what transactions one after another earn, gas paid, in debt-token wei; undone."""
        return self.run(drawn, calldatas)[0]

    def gained(self, drawn: Drawn, calldata: bytes) -> int:
        """Return what the contract holds more of the debt token after a transaction; undone."""
        token = drawn.scene.market.tokens[drawn.scene.debt].address
        before = self.net.snapshot()
        try:
            held = self.net.balance(token, self.stage.address)
            self.stage.send(calldata, self.stage.operator, check=False)
            return self.net.balance(token, self.stage.address) - held
        finally:
            self.net.revert(before)

    def run(self, drawn: Drawn, calldatas: Sequence[bytes]) -> tuple[float, list[int]]:
        """Return what transactions earn (`realised`), and the gas each of them used; undone."""
        scene = drawn.scene
        token = scene.market.tokens[scene.debt].address
        before = self.net.snapshot()
        try:
            held = self.net.balance(token, self.stage.address)
            used = [
                self.stage.send(data, self.stage.operator, check=False).gas_used
                for data in calldatas
            ]
            gained = self.net.balance(token, self.stage.address) - held
            return gained - sum(used) * drawn.gas_unit, used
        finally:
            self.net.revert(before)

    def curves(self, drawn: Drawn) -> dict[int, Ticked]:
        """Return the pair's own pools by fee, as they stand."""
        scene = drawn.scene
        pair = [
            Address(scene.market.tokens[name].address) for name in (scene.collateral, scene.debt)
        ]
        most = sum(debtor.balance for debtor in drawn.debtors)
        found = {}
        for pool in scene.venue.pools.values():
            if {pool.token0, pool.token1} == set(pair) and pool.at.liquidity:
                net = {number * pool.spacing: change for number, (_, change) in pool.ticks.items()}
                token0 = pool.token0 == pair[0]
                found[pool.fee] = Ticked(
                    *pool.at, net, pool.spacing, pool.fee, token0=token0, most=most
                )
        return found

    def _crowd(self, market: Market, collateral: str, debt: str) -> tuple[bytes, ...]:
        return tuple(
            who
            for size in _SIZES
            for who in self.net.borrowers(
                6, collateral=collateral, debt=debt, health=_HEALTH, size_usd=size, market=market
            )
        )

    def _follow(self, market: Market) -> Following:
        return Following(self.net, market.pool)

    def venue(self, market: Market, *symbols: str) -> UniswapV3:
        """Return a venue of the pools between some tokens, loaded at the head."""
        tokens = [Address(market.tokens[symbol].address) for symbol in symbols]
        venue = UniswapV3("uniswap", Address(self.net.uniswap.factory), tokens)
        reader = ChainReader(DirectRpc(self.net))

        async def load() -> None:
            await venue.bootstrap(reader, await reader.head())

        asyncio.run(load())
        return venue

    def _positions(self) -> dict[bytes, list[tuple[int, int]]]:
        """Return the lender's positions in each pool: number and liquidity."""
        manager = self.net.uniswap.position_manager
        count = self.net.call(manager, "totalSupply()")
        calls = [(manager, "positions(uint256)", [n]) for n in range(1, count + 1)]
        answers = self.net.chain.call_many(calls, POSITION, "latest")
        by_key = {(p.token0, p.token1, p.fee): p.address for p in self.net.uniswap.pools}
        found: dict[bytes, list[tuple[int, int]]] = {}
        for number, entry in enumerate(answers, 1):
            token0, token1 = (bytes.fromhex(text[2:]) for text in entry[2:4])
            found.setdefault(by_key[token0, token1, entry[4]], []).append((number, entry[7]))
        return found

    def _thin(self, scene: Scene, rng: random.Random) -> None:
        """Take liquidity out of every pool: from none of it to nearly all."""
        manager = self.net.uniswap.position_manager
        with self.net.one_block():
            for pool in scene.pools:
                kept = 10 ** rng.uniform(-2.5, 0)
                for number, liquidity in self._minted[pool.address]:
                    entry = (number, int(liquidity * (1 - kept)), 0, 0, FAR)
                    self.net.put(Cast.LENDER, manager, BURN, [entry], gas=500_000)

    def _move(self, scene: Scene, rng: random.Random) -> None:
        """Let the collateral fall in the oracle, and the pools to near it, each on its own."""
        net, tokens = self.net, scene.market.tokens
        price = int(net.price(scene.collateral, scene.market) * (1 - rng.uniform(0.042, 0.15)))
        net.set_prices({scene.collateral: price}, move_pools=False, market=scene.market)
        prices = net.prices(scene.market)
        known = {token.address: token for token in tokens.values()}
        slots = net.chain.call_many(
            [(pool.address, "slot0()", []) for pool in scene.pools], ["uint160"], "latest"
        )
        with net.one_block():
            for pool, now in zip(scene.pools, slots, strict=True):
                target = sqrt_price(known[pool.token0], known[pool.token1], prices)
                off = rng.gauss(0, pool.fee / 2 + 1_000) / 2_000_000
                target = int(target * (1 + off))
                sold, got = (
                    (pool.token0, pool.token1) if target < now else (pool.token1, pool.token0)
                )
                entry = (sold, got, pool.fee, Cast.TRADER, FAR, 2**120, 0, target)
                net.put(Cast.TRADER, net.uniswap.router, EXACT_INPUT, [entry], gas=4_000_000)

    def _logs(self, scene: Scene, first: int) -> list[Log]:
        query = {
            "fromBlock": hex(first),
            "address": ["0x" + address.hex() for address in scene.venue.pools],
        }
        return parse.logs(self.net.rpc("eth_getLogs", query))

    def _seen(self, scene: Scene, seed: int, rng: random.Random, most: int) -> Drawn:
        following = scene.following
        gas_price = int(10 ** rng.uniform(0, 2.3) * GWEI)
        head = following.head
        at = NextBlock(head.number + 1, head.timestamp + 12, Wei(gas_price))
        choices: list[Choice] = []
        wanted = rng.randint(1, most)
        for who in rng.sample(scene.crowd, len(scene.crowd)):
            position = following.market.position(Address(who), following.prices, at)
            assert position is not None
            pairs, _ = following.market.pairs(position, following.prices, at)
            if pairs and len(choices) < wanted:
                opportunity = Opportunity(position, tuple(pairs), Cause.PRICE, "bench")
                choices.append(Choice(opportunity, Limits(Usd(0))))
        weth = self.net.tokens["WETH"]
        native = Token(Address(weth.address), "WETH", 18)
        name = following.market.market
        view = View("devnet", head, at, (), {name: following.prices}, {}, native)
        debtors = tuple(self._debtor(scene, each.opportunity.position.borrower) for each in choices)
        return Drawn(scene, seed, view, tuple(choices), gas_price, debtors)

    def _debtor(self, scene: Scene, who: bytes) -> Debtor:
        """Return a borrower as the chain tells of it."""
        market, net = scene.market, self.net
        collateral, debt = market.tokens[scene.collateral], market.tokens[scene.debt]
        config = net.call(
            market.data_provider,
            "getReserveConfigurationData(address)",
            [collateral.address],
            ["uint256"] * 4,
        )
        fee = net.call(
            market.data_provider, "getLiquidationProtocolFee(address)", [collateral.address]
        )
        return Debtor(
            net.balance(collateral.a_token, who),
            net.balance(debt.v_token, who),
            net.price(scene.collateral, market),
            net.price(scene.debt, market),
            10**collateral.decimals,
            10**debt.decimals,
            config[3],
            fee,
            config[2],
        )


def _late(debtor: Debtor, cover: int) -> int:
    """Return what to send for a cover: interest of one block more where it closes something."""
    done = debtor.call(cover)
    if done is not None and (done.after.owed == 0 or done.after.balance == 0):
        return cover + cover // (10 * BPS) + 1
    return cover
