"""The market the scenarios play on: borrowers, traders and an owner who do random things."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from keeper.devnet import Cast, Devnet, Pool
from keeper.devnet.arbitrage import EXACT_INPUT
from keeper.devnet.prices import put_prices
from keeper.units import BPS, MAX_UINT256, WAD, Address
from tests.chaos.stillness import Stillness, StillRpc
from tests.uniswap import ANY, FAR_FUTURE, MINT, SPACING

BURN = "decreaseLiquidity((uint256,uint128,uint256,uint256,uint256))"
COLLECT = "collect((uint256,address,uint128,uint128))"
CREATE = "createAndInitializePoolIfNecessary(address,address,uint24,uint160)"
LENT = ("WETH", "wstETH", "WBTC", "USDC", "DAI")
OWED = ("WETH", "USDC", "DAI")
MOVED = ("WETH", "WBTC", "wstETH", "DAI")
FEES = (3000, 10_000)
"""Fee tiers that are followed; the finer ones have so many tick words that loading takes long."""
_GAS = 1_500_000
_POSITIONS = 6


class World:
    """A chain with a cast that acts; every action is one transaction, and may well revert."""

    def __init__(self, net: Devnet) -> None:
        self.net = net
        self.stillness = Stillness()
        net.rpc = net.chain.rpc = StillRpc(net.rpc, self.stillness)
        self.market = net.market
        self.prices = net.prices()
        near = (1.01, 1.25)
        kinds = {
            (("WETH", "USDC"),): net.borrowers(5, health=near, seed=1),
            (("WBTC", "USDC"),): net.borrowers(3, collateral="WBTC", health=near, seed=2),
            (("WBTC", "DAI"), ("WETH", "USDC")): net.borrowers(3, kind="five", health=near, seed=3),
            (("wstETH", "WETH"),): net.borrowers(2, kind="emode", health=(1.01, 1.1), seed=4),
        }
        self._pairs = {who: pairs for pairs, crowd in kinds.items() for who in crowd}
        self.crowd = list(self._pairs)
        self.lenders = [account.address for account in net.users[:3]]
        self.trader = net.users[3].address
        self.borrowers = [Address(who) for who in (*self.crowd, *self.lenders)]
        self._pools = [pool for pool in net.uniswap.pools if pool.fee in FEES]
        self._provide()
        self._base = net.snapshot()
        self._doings: list[tuple[int, Callable[[random.Random], None]]] = [
            (6, self._lend),
            (5, self._withdraw),
            (6, self._borrow),
            (5, self._repay),
            (5, self._transfer),
            (4, self._switch_collateral),
            (3, self._switch_category),
            (6, self._liquidate),
            (8, self._move_price),
            (8, self._trade),
            (5, self._mint),
            (4, self._burn),
            (3, self._collect),
            (6, self._configure),
        ]

    @contextmanager
    def played(self) -> Iterator[None]:
        """Go back to the first block of the play when the body ends."""
        try:
            yield
        finally:
            self.net.revert(self._base)
            self._base = self.net.snapshot()

    def blocks(self, rng: random.Random, count: int, busy: float, most: int = 4) -> None:
        """Make blocks; a share `busy` of them holds up to `most` transactions."""
        for _ in range(count):
            if rng.random() < busy:
                for _ in range(rng.randint(1, most)):
                    self._act(rng)
            self.net.mine(1, seconds=12 if rng.random() < 0.8 else rng.choice([1, 2, 24, 3_600]))

    def reorg(self, rng: random.Random, depth: int, more: int) -> None:
        """Replace the last blocks by others of other contents, `more` longer or shorter."""
        self.net.rpc("anvil_dropAllTransactions")
        self.net.rpc("anvil_rollback", depth)
        # A second later than the block they replace: never the same block, even when empty.
        self.net.mine(1, seconds=13)
        self.blocks(rng, max(depth + more - 1, 0), 0.3 if depth > 8 else 0.8)

    def swap_tail(self, depth: int) -> None:
        """Replace the last blocks by empty ones, as the node's own method does."""
        self.net.rpc("anvil_reorg", depth, [])

    def list_pool(self, rng: random.Random) -> None:
        """Create a pool nobody knew, and its first position, in two blocks."""
        token0, token1 = sorted(self._token(s) for s in rng.sample(["DAI", "USDT", "sUSDe"], 2))
        fee = rng.choice(FEES)
        manager = self.net.uniswap.position_manager
        root = 2**96 * rng.choice([1, 10**3, 10**5])
        self._put(self.trader, manager, CREATE, [token0, token1, fee, root], 6_000_000)
        self.net.mine()
        width = 40 * SPACING[fee]
        entry = (token0, token1, fee, -width, width, 10**12, 10**12, 0, 0, self.trader, FAR_FUTURE)
        self._put(self.trader, manager, MINT, [entry])
        self.net.mine()

    def rotate_feed(self, rng: random.Random) -> None:
        """Put another aggregator behind a feed, in two blocks."""
        self.net.rotate_aggregator(rng.choice(["WETH", "WBTC", "DAI"]))

    def _provide(self) -> None:
        for who in (*self.crowd, *self.lenders, self.trader):
            for symbol, token in self.net.tokens.items():
                if who != self.trader and symbol not in LENT:
                    continue
                self.net.give(symbol, who, self._amount(symbol, 5 * 10**6))
                spenders = (
                    (self.net.uniswap.router, self.net.uniswap.position_manager)
                    if who == self.trader
                    else (self.market.pool,)
                )
                for spender in spenders:
                    args = [spender, MAX_UINT256]
                    self._put(who, token.address, "approve(address,uint256)", args)
            self.net.mine()
        rng = random.Random(0)
        for _ in range(3):
            for who in self.lenders:
                self._lend(rng, who)
            self._mint(rng)
            self.net.mine()

    def _act(self, rng: random.Random) -> None:
        weights, doings = zip(*self._doings, strict=True)
        rng.choices(doings, weights)[0](rng)

    def _lend(self, rng: random.Random, who: bytes | None = None) -> None:
        symbol = rng.choice(LENT)
        who = who or self._someone(rng)
        args = [self._token(symbol), self._some(rng, symbol), who, 0]
        self._put(who, self.market.pool, "supply(address,uint256,address,uint16)", args)

    def _withdraw(self, rng: random.Random) -> None:
        symbol, who = rng.choice(LENT), self._someone(rng)
        amount = MAX_UINT256 if rng.random() < 0.3 else self._some(rng, symbol, 3, 4.5)
        args = [self._token(symbol), amount, who]
        self._put(who, self.market.pool, "withdraw(address,uint256,address)", args)

    def _borrow(self, rng: random.Random) -> None:
        symbol, who = rng.choice(OWED), self._someone(rng)
        args = [self._token(symbol), self._some(rng, symbol, 2, 4.5), 2, 0, who]
        signature = "borrow(address,uint256,uint256,uint16,address)"
        self._put(who, self.market.pool, signature, args)

    def _repay(self, rng: random.Random) -> None:
        symbol, who = rng.choice(OWED), self._someone(rng)
        amount = MAX_UINT256 if rng.random() < 0.3 else self._some(rng, symbol)
        args = [self._token(symbol), amount, 2, who]
        self._put(who, self.market.pool, "repay(address,uint256,uint256,address)", args)

    def _transfer(self, rng: random.Random) -> None:
        symbol = rng.choice(LENT)
        sender, receiver = rng.sample(self.borrowers, 2)
        args = [receiver, self._some(rng, symbol, 2, 4.5)]
        self._put(sender, self.net.tokens[symbol].a_token, "transfer(address,uint256)", args)

    def _switch_collateral(self, rng: random.Random) -> None:
        args = [self._token(rng.choice(LENT)), rng.random() < 0.6]
        signature = "setUserUseReserveAsCollateral(address,bool)"
        self._put(self._someone(rng), self.market.pool, signature, args)

    def _switch_category(self, rng: random.Random) -> None:
        args = [rng.choice([0, 0, 1, 2])]
        self._put(self._someone(rng), self.market.pool, "setUserEMode(uint8)", args)

    def _liquidate(self, rng: random.Random) -> None:
        under = [who for who in self.crowd if self.net.account_data(who)[5] < WAD]
        victim = rng.choice(under or self.crowd)
        collateral, debt = rng.choice(self._pairs[victim])
        args = [
            self._token(collateral),
            self._token(debt),
            victim,
            rng.choice([MAX_UINT256, self._amount("USDC", 2_000)]),
            rng.random() < 0.3,
        ]
        signature = "liquidationCall(address,address,address,uint256,bool)"
        self._put(Cast.RIVAL, self.market.pool, signature, args)

    def _move_price(self, rng: random.Random) -> None:
        symbols = rng.sample(MOVED, rng.choice([1, 1, 2]))
        now = self.net.prices()
        put_prices(self.net.chain, self.market, {s: self._moved(rng, s, now[s]) for s in symbols})

    def _moved(self, rng: random.Random, symbol: str, price: int) -> int:
        start = self.prices[symbol]
        # Back towards where it began, so that a long path neither kills everyone nor saves them.
        pull = 300 if price < start * 8 // 10 else -300 if price > start * 12 // 10 else 0
        return price * (BPS + rng.randint(-800, 700) + pull) // BPS

    def _trade(self, rng: random.Random) -> None:
        pool = rng.choice(self._pools)
        sold, bought = rng.sample([pool.token0, pool.token1], 2)
        amount = self._some(rng, self._symbol(sold), 1, 6)
        entry = (sold, bought, pool.fee, self.trader, FAR_FUTURE, amount, 0, 0)
        self._put(self.trader, self.net.uniswap.router, EXACT_INPUT, [entry])

    def _mint(self, rng: random.Random) -> None:
        pool = rng.choice(self._pools)
        spacing = SPACING[pool.fee]
        low = self._tick(pool) // spacing + rng.randint(-30, 20)
        high = low + rng.randint(1, 30)
        amounts = [self._some(rng, self._symbol(t), 2, 6) for t in (pool.token0, pool.token1)]
        entry = (
            *(pool.token0, pool.token1, pool.fee, low * spacing, high * spacing),
            *(*amounts, 0, 0, self.trader, FAR_FUTURE),
        )
        self._put(self.trader, self.net.uniswap.position_manager, MINT, [entry])

    def _burn(self, rng: random.Random) -> None:
        number, held = self._position(rng)
        amount = held if rng.random() < 0.5 else held // 2
        args = [(number, amount, 0, 0, FAR_FUTURE)]
        self._put(self.trader, self.net.uniswap.position_manager, BURN, args)

    def _collect(self, rng: random.Random) -> None:
        args = [(self._position(rng)[0], self.trader, ANY, ANY)]
        self._put(self.trader, self.net.uniswap.position_manager, COLLECT, args)

    def _configure(self, rng: random.Random) -> None:
        symbol = rng.choice(LENT)
        asset = self._token(symbol)
        threshold = self.net.tokens[symbol].liquidation_threshold + rng.randint(-150, 100)
        choices: list[tuple[str, Sequence[object]]] = [
            (
                "configureReserveAsCollateral(address,uint256,uint256,uint256)",
                [asset, threshold - 300, threshold, 10_500 + rng.randint(-50, 100)],
            ),
            ("setReserveFactor(address,uint256)", [asset, rng.randint(500, 4_000)]),
            ("setReserveFreeze(address,bool)", [asset, rng.random() < 0.3]),
            ("setReservePause(address,bool)", [asset, rng.random() < 0.3]),
            ("setReserveBorrowing(address,bool)", [asset, rng.random() < 0.8]),
            ("setReserveFlashLoaning(address,bool)", [asset, rng.random() < 0.7]),
            ("setLiquidationProtocolFee(address,uint256)", [asset, rng.randint(0, 3_000)]),
            ("setSupplyCap(address,uint256)", [asset, rng.randint(10**6, 10**10)]),
            ("updateFlashloanPremium(uint128)", [rng.randint(0, 12)]),
        ]
        signature, args = rng.choice(choices)
        self._put(self.market.owner, self.market.configurator, signature, args)

    def _position(self, rng: random.Random) -> tuple[int, int]:
        """Return one of the trader's first liquidity positions: its number and liquidity."""
        manager = self.net.uniswap.position_manager
        count = self.net.call(manager, "balanceOf(address)", [self.trader])
        index = rng.randrange(min(count, _POSITIONS))
        number = self.net.call(
            manager, "tokenOfOwnerByIndex(address,uint256)", [self.trader, index]
        )
        shape = ["uint96", "address", "address", "address", "uint24", "int24", "int24", "uint128"]
        return number, int(self.net.call(manager, "positions(uint256)", [number], shape)[7])

    def _tick(self, pool: Pool) -> int:
        shape = ["uint160", "int24", *["uint16"] * 3]
        return int(self.net.call(pool.address, "slot0()", [], shape)[1])

    def _put(
        self, frm: bytes, to: bytes, signature: str, args: Sequence[object], gas: int = _GAS
    ) -> None:
        self.net.put(frm, to, signature, args, gas=gas, check=False)

    def _someone(self, rng: random.Random) -> Address:
        return rng.choice(self.borrowers)

    def _token(self, symbol: str) -> bytes:
        return self.net.tokens[symbol].address

    def _symbol(self, token: bytes) -> str:
        return next(s for s, each in self.net.tokens.items() if each.address == token)

    def _some(self, rng: random.Random, symbol: str, low: float = 1, high: float = 5) -> int:
        return max(self._amount(symbol, 10 ** rng.uniform(low, high)), 1)

    def _amount(self, symbol: str, usd: float) -> int:
        unit = int(10 ** self.net.tokens[symbol].decimals)
        return int(usd * 10**8) * unit // self.prices[symbol]


def _ignore(_: str) -> None:
    pass
