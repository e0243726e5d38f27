"""The ledger equals the real contracts to the wei, whatever borrowers, owners and time do.

A state machine acts on a real Aave v3.6 market. The market is loaded once for each run and then
kept by folding logs; after every step reserves, balances, flags, collateral, debt and health equal
what the contracts say, in this block and a day later. Every liquidation is predicted, what it leaves
of the borrower included. At the end all folds are taken back and done again.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from keeper.chain.multicall import decode_aggregate3, encode_aggregate3
from keeper.chain.words import read, topic, uint
from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.calls import calldata
from keeper.errors import RpcError
from keeper.protocols.aave_v3.terms import AaveTerms
from keeper.types import Head, Log, Prices
from keeper.units import MAX_UINT256, WAD, Address
from tests.aave import BLOCK_SECONDS, Following, state

pytestmark = pytest.mark.chain

SEEDS = (11, 23, 37, 53, 71)
STEPS = 10
RUNS = 30
DAY = 86_400
SYMBOLS = ("WETH", "wstETH", "WBTC", "USDC", "USDT", "DAI", "sUSDe", "PT")
BORROWED = ("WETH", "wstETH", "WBTC", "USDC", "USDT", "DAI")
MOVED = ("WETH", "wstETH", "WBTC", "USDC", "DAI", "sUSDe")
RULES = {
    "supply",
    "borrow",
    "repay",
    "withdraw",
    "transfer",
    "switch_category",
    "toggle_collateral",
    "pass_time",
    "move_price",
    "mint_to_treasury",
    "change_parameter",
    "liquidate",
}
LIQUIDATION = topic("LiquidationCall(address,address,address,uint256,uint256,address,bool)")
TRANSFER = topic("BalanceTransfer(address,address,uint256,uint256)")
CALL = "liquidationCall(address,address,address,uint256,bool)"

users = st.integers(0, 4)
shares = st.integers(1, 100)
turns = st.integers(0, 1_000)
dollars = st.sampled_from([300, 1_500, 3_000, 20_000, 150_000])


def prepare(net: Devnet) -> list[bytes]:
    """Give six accounts every token, debts to the first three and supplies to two more."""
    accounts = [account.address for account in net.users[:6]]
    pool, prices = net.market.pool, net.prices()
    for symbol in SYMBOLS:
        token = net.tokens[symbol]
        amount = 50_000_000 * 10**8 * 10**token.decimals // prices[symbol]
        for account in accounts:
            net.give(symbol, account, amount)
            with net.one_block():
                net.put(account, token.address, "approve(address,uint256)", [pool, MAX_UINT256])
    loans = (("WETH", "USDC", 40_000), ("WBTC", "DAI", 9_000), ("USDC", "WETH", 3_500))
    for account, (collateral, debt, usd) in zip(accounts, loans, strict=False):
        supplied = usd * 10**8 * 10 ** net.tokens[collateral].decimals // prices[collateral]
        borrowed = usd * 60 * 10**6 * 10 ** net.tokens[debt].decimals // prices[debt]
        asset = net.tokens[collateral].address
        net.send(
            account, pool, "supply(address,uint256,address,uint16)", [asset, supplied, account, 0]
        )
        args = [net.tokens[debt].address, borrowed, 2, 0, account]
        net.send(account, pool, "borrow(address,uint256,uint256,uint16,address)", args)
    for account, symbol in zip(accounts[3:5], ("DAI", "wstETH"), strict=True):
        supplied = 30_000 * 10**8 * 10 ** net.tokens[symbol].decimals // prices[symbol]
        args = [net.tokens[symbol].address, supplied, account, 0]
        net.send(account, pool, "supply(address,uint256,address,uint16)", args)
    return accounts


class Exact(RuleBasedStateMachine):
    """Acts on the market; every rule that succeeded is counted by its name."""

    net: ClassVar[Devnet]
    accounts: ClassVar[list[bytes]]
    done: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.before = self.net.snapshot()
        self.following = Following(self.net, self.net.market.pool)
        self.market = self.following.market
        self.users = self.accounts[:5]
        self.liquidator = self.accounts[5]
        self.opening = self.net.prices()
        self.start = state(self.following.ledger)
        self.held = {user: self.market.legs(Address(user)) for user in self.users}
        self.market.changed()

    def teardown(self) -> None:
        following = self.following
        end = state(following.ledger)
        for block in reversed(following.blocks):
            following.take_back(block.undos)
        assert state(following.ledger) == self.start
        for block in following.blocks:
            following.fold(block.logs)
        assert state(following.ledger) == end
        self.net.revert(self.before)

    # What borrowers do

    @rule(user=users, other=users, symbol=st.sampled_from(SYMBOLS), usd=dollars)
    def supply(self, user: int, other: int, symbol: str, usd: int) -> None:
        amount = self.worth(symbol, usd)
        args = [self.asset(symbol), amount, self.users[other], 0]
        self.act("supply", user, "supply(address,uint256,address,uint16)", args)

    @rule(turn=turns, symbol=st.sampled_from(BORROWED), share=shares)
    def borrow(self, turn: int, symbol: str, share: int) -> None:
        free = [self.net.account_data(address)[2] for address in self.users]
        able = [user for user, available in enumerate(free) if available]
        if not able:
            return
        user = able[turn % len(able)]
        amount = free[user] * share * 10 ** self.net.tokens[symbol].decimals
        amount = int(amount) // (100 * self.net.price(symbol))
        args = [self.asset(symbol), amount, 2, 0, self.users[user]]
        self.act("borrow", user, "borrow(address,uint256,uint256,uint16,address)", args)

    @rule(turn=turns, share=shares, how=st.sampled_from(["part", "all", "aTokens"]))
    def repay(self, turn: int, share: int, how: str) -> None:
        debts = [
            (user, leg)
            for user, address in enumerate(self.users)
            for leg in self.following.position(address).debt
        ]
        if not debts:
            return
        user, leg = debts[turn % len(debts)]
        amount = MAX_UINT256 if how == "all" else max(1, leg.amount * share // 100)
        if how == "aTokens":
            args = [leg.token.address, amount, 2]
            self.act("repay", user, "repayWithATokens(address,uint256,uint256)", args)
        else:
            args = [leg.token.address, amount, 2, self.users[user]]
            self.act("repay", user, "repay(address,uint256,uint256,address)", args)

    @rule(turn=turns, share=shares, whole=st.booleans())
    def withdraw(self, turn: int, share: int, whole: bool) -> None:
        user, symbol, balance = self.supplied(turn)
        amount = MAX_UINT256 if whole else max(1, balance * share // 300)
        args = [self.asset(symbol), amount, self.users[user]]
        self.act("withdraw", user, "withdraw(address,uint256,address)", args)

    @rule(turn=turns, other=users, share=shares)
    def transfer(self, turn: int, other: int, share: int) -> None:
        user, symbol, balance = self.supplied(turn)
        amount = balance if share == 100 else max(1, balance * share // 300)
        token = self.net.tokens[symbol].a_token
        args = [self.users[other], amount]
        self.act("transfer", user, "transfer(address,uint256)", args, token)

    @rule(turn=turns)
    def toggle_collateral(self, turn: int) -> None:
        user, symbol, _ = self.supplied(turn)
        account = self.following.ledger.account(Address(self.users[user]))
        used = account.flags >> self.reserve(symbol) & 1
        args = [self.asset(symbol), not used]
        self.act("toggle_collateral", user, "setUserUseReserveAsCollateral(address,bool)", args)

    @rule(user=users, category=st.integers(0, 2))
    def switch_category(self, user: int, category: int) -> None:
        self.act("switch_category", user, "setUserEMode(uint8)", [category])

    # What happens to them

    @rule(seconds=st.sampled_from([1, 60, 3_600, DAY, 30 * DAY]))
    def pass_time(self, seconds: int) -> None:
        self.net.mine(1, seconds)
        self.finish("pass_time", ok=True)

    @rule(symbol=st.sampled_from(MOVED), percent=st.integers(75, 125))
    def move_price(self, symbol: str, percent: int) -> None:
        price = self.opening[symbol] * percent // 100
        self.net.set_price(symbol, price, move_pools=False)
        self.finish("move_price", ok=True)

    @rule()
    def mint_to_treasury(self) -> None:
        assets = [self.asset(symbol) for symbol in SYMBOLS]
        pool = self.net.market.pool
        mined = self.net.send(self.users[0], pool, "mintToTreasury(address[])", [assets])
        self.finish("mint_to_treasury", ok=bool(mined.logs))

    @rule(
        symbol=st.sampled_from(BORROWED),
        choice=st.integers(0, 12),
        number=shares,
        category=st.integers(1, 2),
        on=st.booleans(),
    )
    def change_parameter(
        self, symbol: str, choice: int, number: int, category: int, on: bool
    ) -> None:
        asset = self.asset(symbol)
        changes = self.changes(asset, number, category, on)
        signature, args = changes[choice % len(changes)]
        self.configure(signature, args)
        if "Freeze" in signature:
            self.configure(signature, [asset, False])
        if "Pause" in signature:
            self.configure(signature, [asset, False, *[number][: len(args) - 2]])

    def changes(
        self, asset: bytes, number: int, category: int, on: bool
    ) -> list[tuple[str, list[Any]]]:
        """Return what an owner may change, each as a call of the configurator."""
        threshold = 6_500 + 10 * number
        by_category = [asset, category, on]
        rates = [4_000 + 50 * number, number, 10 * number, 5_000]
        return [
            (
                "configureReserveAsCollateral(address,uint256,uint256,uint256)",
                [asset, threshold - 200, threshold, 10_100 + 10 * number],
            ),
            ("setLiquidationProtocolFee(address,uint256)", [asset, 25 * number]),
            ("setReserveFactor(address,uint256)", [asset, 50 * number]),
            ("setBorrowCap(address,uint256)", [asset, 10**9 + number]),
            ("setSupplyCap(address,uint256)", [asset, 10**10 + number]),
            (
                "setEModeCategory(uint8,uint16,uint16,uint16,string)",
                [category, 8_500, 9_000 + number, 10_050 + number, "changed"],
            ),
            ("setAssetCollateralInEMode(address,uint8,bool)", by_category),
            ("setAssetBorrowableInEMode(address,uint8,bool)", by_category),
            ("setAssetLtvzeroInEMode(address,uint8,bool)", by_category),
            ("setReserveFreeze(address,bool)", [asset, True]),
            ("updateFlashloanPremium(uint128)", [number]),
            ("setReserveInterestRateData(address,bytes)", [asset, _packed(rates)]),
            ("setReservePause(address,bool,uint40)", [asset, True, 0]),
        ]

    @rule(
        turn=turns,
        pair=turns,
        share=st.sampled_from([100, 100, 99, 60, 30, 5]),
        health=st.sampled_from([98, 96, 93, 80, 40]),
        keep=st.booleans(),
        back=st.booleans(),
    )
    def liquidate(
        self, turn: int, pair: int, share: int, health: int, keep: bool, back: bool
    ) -> None:
        """Make a borrower unhealthy through its collateral's prices, and liquidate as predicted."""
        debtors = [user for user in self.users if self.following.position(user).debt]
        if not debtors:
            return
        borrower = debtors[turn % len(debtors)]
        moved = self.depress(borrower, health)
        position = self.following.position(borrower, BLOCK_SECONDS)
        at = self.following.at(BLOCK_SECONDS)
        pairs, _ = self.market.pairs(position, self.following.prices, at)
        if pairs:
            self.take(borrower, pairs[pair % len(pairs)], share, keep)
        if back:
            self.net.set_prices(moved, move_pools=False)
            self.finish("move_price", ok=True)

    # How each step is done and judged

    def act(
        self, name: str, user: int, signature: str, args: list[Any], to: bytes | None = None
    ) -> None:
        pool = self.net.market.pool
        mined = self.net.send(self.users[user], to or pool, signature, args, check=False)
        self.finish(name, ok=mined.ok)

    def configure(self, signature: str, args: list[Any]) -> None:
        market = self.net.market
        mined = self.net.send(market.owner, market.configurator, signature, args, check=False)
        self.finish("change_parameter", ok=mined.ok)

    def depress(self, borrower: bytes, health: int) -> dict[str, int]:
        """Lower the borrower's collateral to about a health in percent; return the prices before."""
        position = self.following.position(borrower)
        prices = self.net.prices()
        owed = {leg.token.symbol for leg in position.debt}
        moved = {
            leg.token.symbol: prices[leg.token.symbol]
            for leg in position.collateral
            if leg.token.symbol in MOVED and leg.token.symbol not in owed
        }
        lower = {
            symbol: max(1, price * health * WAD // (100 * position.health))
            for symbol, price in moved.items()
        }
        if position.health > health * WAD // 100 and moved:
            self.net.set_prices(lower, move_pools=False)
            self.finish("move_price", ok=True)
        return moved

    def take(self, borrower: bytes, terms: AaveTerms, share: int, keep: bool) -> None:
        asked = max(1, terms.maximum * share // 100)
        size = terms.legal_down(asked)
        pair = [terms.collateral.address, terms.debt.address, borrower]
        if size < asked * 999 // 1_000 and not keep:
            with pytest.raises(RpcError):
                self.call_at(CALL, [*pair, asked, False])
        size = size or terms.legal_down(terms.maximum)
        if size == terms.maximum and terms.seize(MAX_UINT256).repaid <= terms.owed:
            size = MAX_UINT256
        mined = self.net.send(
            self.liquidator, self.net.market.pool, CALL, [*pair, size, keep], check=False
        )
        assert mined.ok, f"{size} of {terms} was refused"
        head = self.following.run(self.following.reader.head())
        prices = self.prices_at(head)
        at = self.following.at(head.timestamp - self.following.head.timestamp)
        position = self.market.position(Address(borrower), prices, at)
        assert position is not None
        found, _ = self.market.pairs(position, prices, at)
        exact = next(
            each
            for each in found
            if each.collateral == terms.collateral and each.debt == terms.debt
        )
        before = dict(self.following.ledger.account(Address(borrower)).supplied)
        predicted = self.market.after(position, exact, size)
        logs = self.finish("liquidate", ok=True)
        self.judge(exact, size, logs, before)
        # What the chain says of the borrower is compared with the ledger at every step.
        assert self.following.position(borrower) == predicted

    def judge(self, terms: AaveTerms, size: int, logs: list[Log], before: dict[int, int]) -> None:
        """Compare what the call did with what was predicted."""
        predicted = terms.seize(size)
        event = next(log for log in logs if log.topics[0] == LIQUIDATION)
        assert (uint(event.data), uint(event.data, 1)) == (predicted.repaid, predicted.received)
        treasury = self.net.market.treasury
        token = self.net.tokens[terms.collateral.symbol].a_token
        paid = [
            uint(log.data)
            for log in logs
            if log.address == token and log.topics[0] == TRANSFER and log.topics[2][12:] == treasury
        ]
        reserve = self.reserve(terms.collateral.symbol)
        burn = self.following.ledger.era.supply_burn
        left = before[reserve] - burn(predicted.received, terms.supply_index)
        fee = burn(predicted.protocol_fee, terms.supply_index)
        assert sum(paid) == min(fee, left) if paid else fee == 0

    def finish(self, name: str, *, ok: bool) -> list[Log]:
        """Follow the chain and compare everything with it."""
        if ok:
            self.done[name] += 1
        logs = self.following.follow()
        assert self.following.drifts() == []
        for seconds in (0, DAY):
            self.compare(seconds)
        for user in self.market.changed() & set(map(Address, self.users)):
            self.held[user] = self.market.legs(user)
        assert self.held == {user: self.market.legs(Address(user)) for user in self.users}
        return logs

    def compare(self, seconds: int) -> None:
        """Compare every user with getUserAccountData that many seconds after the head."""
        following = self.following
        pool = Address(self.net.market.pool)
        at = following.at(seconds)
        users = [*map(Address, self.users), Address(self.liquidator), Address(Cast.ANCHOR)]
        calls = [read(pool, "getUserAccountData(address)", user) for user in users]
        assets = [Address(self.asset(symbol)) for symbol in SYMBOLS]
        oracle = Address(self.net.market.oracle)
        calls += [read(oracle, "getAssetPrice(address)", asset) for asset in assets]
        request = {
            "to": "0x" + self.net.multicall.hex(),
            "data": "0x" + encode_aggregate3(calls).hex(),
        }
        answer = self.net.rpc(
            "eth_call", request, hex(following.head.number), {}, {"time": hex(at.timestamp)}
        )
        data = [result.data for result in decode_aggregate3(bytes.fromhex(answer[2:]))]
        values = dict(zip(assets, (uint(word) for word in data[len(users) :]), strict=True))
        if seconds == 0:
            assert values == following.prices.values
        prices = Prices("main", 10**8, values)
        collateral_factors, debt_factors = self.market.factors(prices, at)
        for user, account in zip(users, data, strict=False):
            position = self.market.position(user, prices, at)
            assert position is not None
            exact = (position.collateral_value, position.debt_value, position.health)
            assert exact == (uint(account), uint(account, 1), uint(account, 5))
            # One unit of a token, which the contract rounds to, is worth more than a small debt.
            if position.debt_value > 1_000 * 10**8:
                collateral, debt = self.market.legs(user)
                weighted = sum(
                    float(scaled) * collateral_factors[number] for number, scaled in collateral
                )
                owed = sum(float(scaled) * debt_factors[number] for number, scaled in debt)
                self.screened(weighted / owed, position.health / WAD)

    def screened(self, health: float, exact: float) -> None:
        """Compare the screen's health with the contract's."""
        assert health == pytest.approx(exact, rel=1e-5)

    def call_at(self, signature: str, args: list[Any]) -> None:
        """Call as the liquidator at the next block's time."""
        time = {"time": hex(self.following.head.timestamp + BLOCK_SECONDS)}
        request = {
            "from": "0x" + self.liquidator.hex(),
            "to": "0x" + self.net.market.pool.hex(),
            "data": "0x" + calldata(signature, args).hex(),
        }
        self.net.rpc("eth_call", request, "latest", {}, time)

    def prices_at(self, head: Head) -> Prices:
        oracle = Address(self.net.market.oracle)
        assets = [Address(self.asset(symbol)) for symbol in SYMBOLS]
        calls = [read(oracle, "getAssetPrice(address)", asset) for asset in assets]
        results = self.following.run(self.following.reader.multicall(calls, head.hash))
        words = [uint(result.data) for result in results]
        return Prices("main", 10**8, dict(zip(assets, words, strict=True)))

    def asset(self, symbol: str) -> bytes:
        return self.net.tokens[symbol].address

    def reserve(self, symbol: str) -> int:
        return self.following.ledger.by_asset[Address(self.asset(symbol))].id

    def worth(self, symbol: str, usd: int) -> int:
        return int(usd * 10**8 * 10 ** self.net.tokens[symbol].decimals // self.opening[symbol])

    def supplied(self, turn: int) -> tuple[int, str, int]:
        """Return one of all supplies: whose, of what, and its balance."""
        found = []
        for user, address in enumerate(self.users):
            account = self.following.ledger.account(Address(address))
            for number, scaled in sorted(account.supplied.items()):
                reserve = self.following.ledger.reserves[number]
                index = reserve.supply_index_at(self.following.head.timestamp)
                assert reserve.token is not None
                balance = reserve.era.supply_balance(scaled, index)
                found.append((user, reserve.token.symbol, balance))
        return found[turn % len(found)]


def _packed(words: list[int]) -> bytes:
    return b"".join(word.to_bytes(32, "big") for word in words)


def play(machine: type[Exact], net: Devnet, number: int, runs: int) -> Counter[str]:
    """Run a machine from a seed and return how often each rule succeeded."""

    class Seeded(machine):  # type: ignore[misc, valid-type]
        pass

    Seeded.net, Seeded.accounts, Seeded.done = net, prepare(net), Counter()
    run_state_machine_as_test(
        seed(number)(Seeded),
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
            database=None,
            deadline=None,
        ),
    )
    done: Counter[str] = Seeded.done
    print(f"\nseed {number}: {done.total()} steps, {dict(sorted(done.items()))}")
    return done


@pytest.mark.timeout(280)
@pytest.mark.parametrize("number", SEEDS)
def test_the_ledger_equals_the_contracts(
    net: Devnet, number: int, record_property: Callable[[str, object], None]
) -> None:
    done = play(Exact, net, number, RUNS)
    record_property("steps", dict(done))
    # Five seeds make at least 400 steps, 10 liquidations and 5 of each rule.
    assert set(done) == RULES
    assert done.total() >= 80
    assert done["liquidate"] >= 2
