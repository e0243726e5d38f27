"""The local chain with real protocols that the demo, the tests and the benchmarks share."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from keeper.devnet.accounts import Cast, test_account
from keeper.devnet.anvil import Anvil
from keeper.devnet.arbitrage import ARBITRAGE_FEE, EXACT_INPUT, put_arbitrage
from keeper.devnet.artifacts import compile_aave
from keeper.devnet.borrowers import crowd_spec, open_crowd
from keeper.devnet.calls import calldata
from keeper.devnet.chain import BLOCK_SECONDS, CALL_GAS, MAX_FEE, Chain, Mined, Transaction
from keeper.devnet.deploy_tokens import mint
from keeper.devnet.markets import add_market
from keeper.devnet.model import Account, Market, Pool, Token, Uniswap
from keeper.devnet.prices import put_prices, read_price, read_prices, rotate_aggregator
from keeper.devnet.reserves import (
    SECOND_EMODES,
    SECOND_POOLS,
    SECOND_RESERVES,
    EModeSpec,
    PoolSpec,
    ReserveSpec,
)
from keeper.devnet.rpc import Rpc
from keeper.devnet.state import (
    BLOCK_GAS_LIMIT,
    CHAIN_ID,
    MULTICALL,
    Layout,
    built_state,
    node_arguments,
)
from keeper.devnet.toolchain import Progress, find_anvil, install_packages

_MAX = 2**256 - 1
_FAR_FUTURE = 2**40


class Devnet:
    """A running chain. Use `Devnet.start` in a `with` statement.

    Blocks appear only when asked for: `mine` makes one, every `send` makes one, each 12 seconds
    after the last, from a constant start. `automine(True)` makes one per transaction instead.
    """

    def __init__(
        self, node: Anvil, layout: Layout, anvil: Path, modules: Path, seed: int, progress: Progress
    ) -> None:
        self._node = node
        self._modules = modules
        self._progress = progress
        self._seed = seed
        self._crowds = 0
        self._saved: dict[str, tuple[Uniswap, int]] = {}
        self.chain = Chain(Rpc(node.host, node.port))
        self.rpc = self.chain.rpc
        self.market = layout.market
        self.uniswap = layout.uniswap
        self.multicall = MULTICALL
        self.chain_id = CHAIN_ID
        self.anvil = anvil

    @classmethod
    def start(
        cls,
        *,
        seed: int = 1,
        quiet: bool = True,
        progress: Progress | None = None,
        port: int = 0,
        block_gas_limit: int = BLOCK_GAS_LIMIT,
        tx_gas_cap: bool = True,
    ) -> Self:
        """Start a chain on which everything is deployed, building what is not in the cache.

        `progress` is told each slow step (printed when it is None and `quiet` is off). Raises
        ConfigError when node, npm or anvil are missing or the port is taken.
        """
        tell: Progress = progress or (_ignore if quiet else print)
        modules = install_packages(tell)
        anvil = find_anvil(modules)
        state, layout = built_state(anvil, modules, tell)
        arguments = [
            *node_arguments(block_gas_limit, tx_gas_cap, layout.timestamp),
            "--load-state",
            str(state),
        ]
        node = Anvil(anvil, arguments, "127.0.0.1", port)
        try:
            net = cls(node, layout, anvil, modules, seed, tell)
            net.rpc("anvil_setBlockTimestampInterval", BLOCK_SECONDS)
        except BaseException:
            node.stop()
            raise
        return net

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the node; harmless when already ended."""
        self.rpc.close()
        self._node.stop()

    @property
    def rpc_url(self) -> str:
        """Return the HTTP endpoint."""
        return f"http://{self._node.host}:{self._node.port}"

    @property
    def ws_url(self) -> str:
        """Return the WebSocket endpoint."""
        return f"ws://{self._node.host}:{self._node.port}"

    @property
    def process_group(self) -> int:
        """Return the process group the node runs in."""
        return self._node.process_group

    @property
    def tokens(self) -> dict[str, Token]:
        """Return the main market's reserves by symbol."""
        return self.market.tokens

    @property
    def accounts(self) -> list[Account]:
        """Return the 20 funded accounts; those below five have parts, see `Cast`."""
        return [test_account(index) for index in range(20)]

    @property
    def users(self) -> list[Account]:
        """Return the funded accounts that nothing here uses."""
        return self.accounts[5:]

    def call(
        self,
        to: bytes,
        signature: str,
        args: Sequence[Any] = (),
        returns: Sequence[str] = ("uint256",),
    ) -> Any:
        """Return the decoded answer of a view call; one value comes bare."""
        return self.chain.call(to, signature, args, returns)

    def send(
        self,
        frm: bytes,
        to: bytes,
        signature: str,
        args: Sequence[Any] = (),
        *,
        value: int = 0,
        gas: int = CALL_GAS,
        max_fee: int = MAX_FEE,
        tip: int = 0,
        check: bool = True,
    ) -> Mined:
        """Send a call from any address, contracts included, and return what it left."""
        return self.chain.send(
            frm, to, signature, args, value=value, gas=gas, max_fee=max_fee, tip=tip, check=check
        )

    def put(
        self,
        frm: bytes,
        to: bytes,
        signature: str,
        args: Sequence[Any] = (),
        *,
        value: int = 0,
        gas: int = CALL_GAS,
        max_fee: int = MAX_FEE,
        check: bool = True,
    ) -> None:
        """Submit a call without making a block; inside `one_block` it is checked at the end."""
        self.chain.put(Transaction(frm, to, calldata(signature, args), value, gas, max_fee), check)

    def deploy(self, code: bytes, frm: bytes = Cast.DEPLOYER) -> bytes:
        """Create a contract from creation code (arguments appended) and return its address."""
        return self.chain.deploy(frm, code)

    def mine(self, blocks: int = 1, seconds: int = BLOCK_SECONDS) -> int:
        """Make blocks `seconds` apart and return the new height."""
        return self.chain.mine(blocks, seconds)

    def automine(self, on: bool) -> None:
        """Make a block for every transaction at once, or (the default) only when asked."""
        self.chain.automine(on)

    @contextmanager
    def one_block(self) -> Iterator[None]:
        """Gather every `put`, price and arbitrage of the body in one block."""
        with self.chain.one_block():
            yield

    def snapshot(self) -> str:
        """Return the id of the present state, good for one `revert`."""
        snapshot = str(self.rpc("evm_snapshot"))
        self._saved[snapshot] = (self.uniswap, self._crowds)
        return snapshot

    def revert(self, snapshot: str) -> None:
        """Go back to a snapshot: state, height and time; the pool is emptied."""
        self.rpc("anvil_dropAllTransactions")
        if not self.rpc("evm_revert", snapshot):
            raise LookupError(f"snapshot {snapshot} is unknown or used")
        self.chain.forget()
        self.uniswap, self._crowds = self._saved.pop(snapshot)

    def give(self, symbol: str, to: bytes, amount: int, market: Market | None = None) -> None:
        """Give tokens (wei) of a reserve to an address."""
        token = (market or self.market).tokens[symbol]
        mint(self.chain, Cast.DEPLOYER, self.tokens["WETH"].address, [(token.address, to, amount)])

    def balance(self, token: bytes, holder: bytes) -> int:
        """Return an ERC-20 balance in wei."""
        return int(self.call(token, "balanceOf(address)", [holder]))

    def account_data(self, borrower: bytes, market: Market | None = None) -> tuple[int, ...]:
        """Return Aave's getUserAccountData.

        Collateral, debt and available (USD, 8 decimals), threshold and LTV (basis points), health
        factor (wad).
        """
        pool = (market or self.market).pool
        values = self.call(pool, "getUserAccountData(address)", [borrower], ["uint256"] * 6)
        return tuple(values)

    def price(self, symbol: str, market: Market | None = None) -> int:
        """Return a reserve's price as the oracle gives it, USD with 8 decimals."""
        return read_price(self.chain, market or self.market, symbol)

    def prices(self, market: Market | None = None) -> dict[str, int]:
        """Return every reserve's price, USD with 8 decimals."""
        return read_prices(self.chain, market or self.market)

    def set_price(self, symbol: str, price: int, *, move_pools: bool = True) -> None:
        """Set one price; see `set_prices`."""
        self.set_prices({symbol: price}, move_pools=move_pools)

    def set_prices(
        self,
        prices: Mapping[str, int],
        *,
        move_pools: bool = True,
        market: Market | None = None,
    ) -> None:
        """Set prices (USD, 8 decimals) through their sources, all in one block.

        With `move_pools` a trader brings the Uniswap pools along in the same block.
        """
        with self.one_block():
            self.put_prices(prices, move_pools=move_pools, market=market)

    def put_prices(
        self,
        prices: Mapping[str, int],
        *,
        move_pools: bool = True,
        market: Market | None = None,
        max_fee: int = ARBITRAGE_FEE,
    ) -> None:
        """Put into the block what `set_prices` sends; inside `one_block`.

        `max_fee` decides where in the block pools are brought along.
        """
        where = market or self.market
        put_prices(self.chain, where, prices)
        if move_pools:
            self._put_arbitrage(where, max_fee)

    def price_path(
        self, symbol: str, path: Sequence[int], *, move_pools: bool = True
    ) -> Iterator[int]:
        """Set one price after the other, a block each, yielding the height after every step."""
        for price in path:
            self.set_price(symbol, price, move_pools=move_pools)
            yield self.chain.block_number()

    def arbitrage(self, market: Market | None = None) -> int:
        """Bring every pool to the oracle's prices in one block; return how many were moved."""
        with self.one_block():
            return self._put_arbitrage(market or self.market)

    def rotate_aggregator(self, symbol: str, market: Market | None = None) -> bytes:
        """Put a new aggregator behind a reserve's proxy at the same price; return its address."""
        return rotate_aggregator(self.chain, market or self.market, symbol)

    def borrowers(
        self,
        n: int,
        *,
        collateral: str | Sequence[str] = "WETH",
        debt: str | Sequence[str] = "USDC",
        health: float | tuple[float, float] = 1.05,
        size_usd: int | tuple[int, int] = (5_000, 100_000),
        emode: int = 0,
        kind: str = "plain",
        seed: int | None = None,
        market: Market | None = None,
    ) -> list[bytes]:
        """Open `n` borrowers and return their addresses.

        `health` is a value or a range; one that Aave would not lend at is reached by letting the
        collateral stand higher for the moment of the loan. `size_usd` is the collateral in whole
        USD. `kind="five"` spreads each over three collaterals and two debts, `kind="emode"` takes
        wstETH against WETH in category 1.
        """
        where = market or self.market
        self._crowds += 1
        drawn = seed if seed is not None else self._seed * 1_000_003 + self._crowds
        spec = crowd_spec(collateral, debt, health, size_usd, emode, kind, drawn)
        return open_crowd(self.chain, where, n, spec)

    def trade(
        self, pool: Pool, token_in: bytes, amount: int, *, trader: bytes = Cast.TRADER
    ) -> Mined:
        """Swap an exact amount (wei) of one of the pool's tokens for the other."""
        out = pool.token1 if token_in == pool.token0 else pool.token0
        entry = (token_in, out, pool.fee, trader, _FAR_FUTURE, amount, 0, 0)
        return self.send(trader, self.uniswap.router, EXACT_INPUT, [entry], gas=16_000_000)

    def liquidate_as_rival(
        self,
        borrower: bytes,
        collateral: str,
        debt: str,
        amount: int = _MAX,
        *,
        put: bool = False,
        max_fee: int = MAX_FEE,
        market: Market | None = None,
    ) -> None:
        """Liquidate a borrower from the rival's own funds, at once or (`put`) in the pool."""
        where = market or self.market
        args = [
            where.tokens[collateral].address,
            where.tokens[debt].address,
            borrower,
            amount,
            False,
        ]
        signature = "liquidationCall(address,address,address,uint256,bool)"
        if put:
            self.put(Cast.RIVAL, where.pool, signature, args, max_fee=max_fee)
        else:
            self.send(Cast.RIVAL, where.pool, signature, args, max_fee=max_fee)

    def deploy_market(
        self,
        name: str = "Second",
        reserves: Sequence[ReserveSpec] = SECOND_RESERVES,
        emodes: Sequence[EModeSpec] = SECOND_EMODES,
        pools: Sequence[PoolSpec] = SECOND_POOLS,
        flash_premium: int = 9,
    ) -> Market:
        """Deploy another Aave v3.6 market and return it.

        Symbols of the main market keep their token and price source; others get their own.
        The pools join `uniswap.pools`.
        """
        contracts = compile_aave(self._modules, self._progress)
        market, self.uniswap = add_market(
            self.chain,
            contracts,
            self.tokens,
            self.uniswap,
            name,
            reserves,
            emodes,
            pools,
            flash_premium,
        )
        return market

    def _put_arbitrage(self, market: Market, max_fee: int = ARBITRAGE_FEE) -> int:
        tokens = {token.address: token for token in market.tokens.values()}
        prices = read_prices(self.chain, market, "pending")
        return put_arbitrage(
            self.chain,
            self.uniswap.router,
            Cast.TRADER,
            self.uniswap.pools,
            tokens,
            prices,
            max_fee,
        )


def _ignore(_: str) -> None:
    pass
