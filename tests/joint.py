"""A hundred positions whose sales share one pool, to be planned together or one after another."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from keeper.chain.reader import ChainReader
from keeper.devnet import Cast, Devnet
from keeper.planning.encoding import Batch, Check, Fund, FundKind, Group, Item, Swap, encode_run
from keeper.planning.planner import Planner
from keeper.planning.rules import PlanRules
from keeper.strategist import Choice
from keeper.types import Bid, Cause, Limits, NextBlock, Opportunity, Token, View
from keeper.units import Address, Usd, Wei
from keeper.venues.uniswap_v3 import UniswapV3
from tests.aave import DirectRpc, Following
from tests.brute.curves import Curve, Floats, Ticked
from tests.brute.debtor import Debtor
from tests.brute.search import best_cover
from tests.chain.contract.stage import FAR, Stage, deploy

GWEI = 10**9
GAS_PRICE = 20 * GWEI
FLASH_PPM = 500
CALL_GAS = 160_000
SWAP_GAS = 40_000
GROUPS = 40
ROUTES = {"WETH": (500,), "wstETH": (100, 500)}
"""Collaterals and the fees of the pools they are sold through: the last one is shared."""
PATHS = {"WETH": ("WETH", "USDC"), "wstETH": ("wstETH", "WETH", "USDC")}
BURN = "decreaseLiquidity((uint256,uint128,uint256,uint256,uint256))"


@dataclass(frozen=True)
class Behind:
    """A curve behind what was sold on it before."""

    curve: Curve
    sold: int

    def out(self, amount: int) -> int:
        """Return what more brings."""
        brought = self.curve.out(self.sold + amount)
        return brought - self.curve.out(self.sold) if brought else 0

    def outs(self, amounts: Floats) -> Floats:
        """Return about what more brings."""
        return self.curve.outs(amounts + self.sold) - float(self.curve.out(self.sold))

    def kinks(self) -> Sequence[int]:
        """Return where liquidity changes from here."""
        return [at - self.sold for at in self.curve.kinks() if at > self.sold]


@dataclass(frozen=True)
class Through:
    """Two curves one after the other."""

    first: Curve
    second: Curve

    def out(self, amount: int) -> int:
        """Return what a sale through both brings."""
        return self.second.out(self.first.out(amount))

    def outs(self, amounts: Floats) -> Floats:
        """Return about what sales through both bring."""
        return self.second.outs(self.first.outs(amounts))

    def kinks(self) -> Sequence[int]:
        """Return where the first one's liquidity changes."""
        return self.first.kinks()


class SharedPool:
    """The crowd under water before one shared, shallow pool."""

    def __init__(self, net: Devnet) -> None:
        self.net = net
        self.stage: Stage = deploy(net)
        opening = {"health": (1.005, 1.02), "size_usd": (3_000, 60_000), "debt": "USDC"}
        plain = net.borrowers(50, collateral="WETH", seed=11, **opening)  # type: ignore[arg-type]
        staked = net.borrowers(50, collateral="wstETH", seed=12, **opening)  # type: ignore[arg-type]
        self.crowd = sorted(
            [*((who, "WETH") for who in plain), *((who, "wstETH") for who in staked)]
        )
        self._thin(97)
        net.set_price("WETH", net.price("WETH") * 94 // 100)
        self.debtors = {who: self._debtor(who, symbol) for who, symbol in self.crowd}
        self.following = Following(net, net.market.pool)
        tokens = [Address(net.tokens[name].address) for name in ("WETH", "wstETH", "USDC")]
        self.venue = UniswapV3("uniswap", Address(net.uniswap.factory), tokens, (100, 500))
        reader = ChainReader(DirectRpc(net))
        asyncio.run(self._load(reader))

    async def _load(self, reader: ChainReader) -> None:
        await self.venue.bootstrap(reader, await reader.head())

    def _thin(self, percent: int) -> None:
        """Take so much out of the pool of WETH and USDC at 0.05 %, the first that was made."""
        manager = self.net.uniswap.position_manager
        for number in (1, 2, 3):
            held = self.net.call(
                manager,
                "positions(uint256)",
                [number],
                ["uint96", "address", "address", "address", "uint24", "int24", "int24", "uint128"],
            )
            assert held[4] == 500
            entry = (number, held[7] * percent // 100, 0, 0, FAR)
            self.net.send(Cast.LENDER, manager, BURN, [entry])

    def address(self, symbol: str) -> Address:
        """Return a token's address."""
        return Address(self.net.tokens[symbol].address)

    def together(self) -> tuple[list[bytes], int]:
        """Return the planner's transactions, and how many positions they take."""
        following = self.following
        head = following.head
        at = NextBlock(head.number + 1, head.timestamp + 12, Wei(GAS_PRICE))
        choices = []
        for who, _ in self.crowd:
            position = following.market.position(Address(who), following.prices, at)
            assert position is not None
            pairs, _ = following.market.pairs(position, following.prices, at)
            assert pairs
            choices.append(
                Choice(Opportunity(position, tuple(pairs), Cause.PRICE, "test"), Limits(Usd(0)))
            )
        name = following.market.market
        native = Token(self.address("WETH"), "WETH", 18)
        view = View("devnet", head, at, (), {name: following.prices}, {}, native)
        rules = PlanRules("devnet", self.stage.address, Wei(0), gas_cap=16_000_000)
        planner = Planner(
            rules, {self.venue.name: self.venue}, {name: following.market}, lambda: "plan"
        )
        quotes, _ = planner.quote(view, choices)
        bid = Bid(Wei(0), Wei(2 * GAS_PRICE), FAR)
        plans, _ = planner.pack(view, [(quote, bid) for quote in quotes])
        return [plan.calldata for plan in plans], sum(len(plan.quotes) for plan in plans)

    def one_by_one(self, crowd: Sequence[tuple[bytes, str]]) -> tuple[list[bytes], int]:
        """Return transactions with each position sized and sold alone on what those before it leave.

        It is taken when it pays for its own gas; as many as fit share a transaction.
        """
        sold = {"first": 0, "shared": 0}
        shared, first = self._curve("WETH", "USDC"), self._curve("wstETH", "WETH")
        items: list[tuple[str, bytes, int]] = []
        for who, symbol in crowd:
            debtor = self.debtors[who]
            last = Behind(shared, sold["shared"])
            curve: Curve = last
            if symbol == "wstETH":
                curve = Through(Behind(first, sold["first"]), last)
            best = best_cover(debtor, [curve], FLASH_PPM, points=100)
            gas = CALL_GAS + SWAP_GAS * len(ROUTES[symbol])
            if best.profit <= gas * self._gas_unit():
                continue
            done = debtor.call(best.cover)
            assert done is not None
            amount = done.received
            if symbol == "wstETH":
                amount = Behind(first, sold["first"]).out(done.received)
                sold["first"] += done.received
            sold["shared"] += amount
            # A close has to pay the next block's interest, too.
            late = 0 if done.after.owed else best.cover // 100_000 + 1
            items.append((symbol, who, best.cover + late))
        starts = range(0, len(items), GROUPS)
        return [self._batch(items[at : at + GROUPS]) for at in starts], len(items)

    def realised(self, calldatas: Sequence[bytes]) -> float:
        """Return the dollars that transactions earn, gas paid; undone."""
        before = self.net.snapshot()
        held = self.stage.held("USDC")
        mined = [self.stage.send(data, self.stage.operator) for data in calldatas]
        earned = self.stage.held("USDC") - held
        self.net.revert(before)
        return (earned - sum(each.gas_used for each in mined) * self._gas_unit()) / 10**6

    def _gas_unit(self) -> float:
        """Return what one unit of gas costs in USDC wei."""
        prices = self.following.prices
        native, debt = prices.get(self.address("WETH")), prices.get(self.address("USDC"))
        assert native
        assert debt
        return GAS_PRICE * native * 10**6 / debt / 10**18

    def _curve(self, sold: str, bought: str) -> Ticked:
        pair = {self.address(sold), self.address(bought)}
        (pool,) = (each for each in self.venue.pools.values() if {each.token0, each.token1} == pair)
        net = {number * pool.spacing: change for number, (_, change) in pool.ticks.items()}
        token0 = pool.token0 == self.address(sold)
        return Ticked(*pool.at, net, pool.spacing, pool.fee, token0=token0)

    def _debtor(self, who: bytes, symbol: str) -> Debtor:
        net = self.net
        collateral, debt = net.tokens[symbol], net.tokens["USDC"]
        bonus, fee = {"WETH": (10_500, 1_000), "wstETH": (10_600, 1_000)}[symbol]
        return Debtor(
            net.balance(collateral.a_token, who),
            net.balance(debt.v_token, who),
            net.price(symbol),
            net.price("USDC"),
            10**18,
            10**6,
            bonus,
            fee,
            collateral.liquidation_threshold,
        )

    def _batch(self, items: Sequence[tuple[str, bytes, int]]) -> bytes:
        factory = Address(self.net.uniswap.factory)
        groups = []
        for symbol, who, cover in items:
            hops = zip(ROUTES[symbol], PATHS[symbol], PATHS[symbol][1:], strict=False)
            groups.append(
                Group(
                    Address(self.net.market.pool),
                    self.address(symbol),
                    self.address("USDC"),
                    (Item(Address(who), cover, minimum_debt=1),),
                    tuple(
                        Swap(factory, fee, self.address(a), self.address(b)) for fee, a, b in hops
                    ),
                    350_000,
                    800_000,
                    Address(self.net.tokens["USDC"].v_token),
                    Check.SCALED,
                )
            )
        lent = sum(cover for *_, cover in items)
        fund = Fund(FundKind.AAVE, self.address("USDC"), lent, Address(self.net.market.pool))
        tokens = tuple(self.address(name) for name in ("WETH", "wstETH", "USDC"))
        return encode_run(Batch(FAR, tokens, tuple(groups), (fund,)))

    def orders(self) -> dict[str, list[tuple[bytes, str]]]:
        """Return the orders in which the positions are tried one by one."""
        largest = sorted(self.crowd, key=lambda each: -self.debtors[each[0]].owed)
        return {
            "as they are met": self.crowd,
            "the largest first": largest,
            "the highest bonus first": sorted(
                largest, key=lambda each: -self.debtors[each[0]].bonus
            ),
        }
