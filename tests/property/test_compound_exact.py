"""The ledger equals Venus' real contracts to the wei, whatever borrowers, owners and time do.

A state machine acts on the core pool. The market is loaded once for each run and then kept by folding
logs; after every step balances, debts, memberships, exchange rates, liquidity and shortfall equal what
the contracts say, and what blocks to come bring is predicted. Every liquidation is predicted, what it
leaves of the borrower included. At the end all folds are taken back and done again.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from keeper.devnet import Devnet
from keeper.devnet.calls import calldata
from keeper.devnet.chain import Transaction
from keeper.devnet.venus import Venus, deploy_venus
from keeper.errors import IncompleteError
from keeper.protocols.compound_v2 import (
    ctoken,
    exponential,
    terms as terms_module,
    valuation,
)
from keeper.protocols.compound_v2.terms import CompoundTerms
from keeper.units import MAX_UINT256, WAD, Address
from tests.venus import FollowingVenus, state

pytestmark = pytest.mark.chain

SEEDS = (7, 19, 31, 43)
STEPS = 10
RUNS = 10
SYMBOLS = ("WETH", "USDC", "WBTC", "DAI")
RULES = {
    "supply",
    "redeem",
    "borrow",
    "repay",
    "transfer",
    "leave",
    "choose_pool",
    "pass_blocks",
    "move_price",
    "change_parameter",
    "liquidate",
}
THROUGH = "liquidateBorrow(address,address,uint256,address)"

users = st.integers(0, 3)
turns = st.integers(0, 1_000)
shares = st.integers(1, 100)
symbols = st.sampled_from(SYMBOLS)
dollars = st.sampled_from([300, 3_000, 20_000, 150_000])


@pytest.fixture(scope="module")
def venus(devnet: Devnet) -> Iterator[Venus]:
    """Venus on the local chain, six accounts with every token, and two pools beside the core."""
    before = devnet.snapshot()
    found = deploy_venus(devnet.chain, devnet.market, lambda _: None)
    send = devnet.chain.send
    owner, comptroller, vtokens = found.owner, found.comptroller, found.vtokens
    for label, listed, falls_back in (("stable", ("USDC", "DAI"), True), ("btc", ("WBTC",), False)):
        send(owner, comptroller, "createPool(string)", [label])
        number = devnet.call(comptroller, "lastPoolId()")
        chosen = [vtokens[symbol] for symbol in listed]
        args = [[number] * len(chosen), chosen]
        send(owner, comptroller, "addPoolMarkets(uint96[],address[])", args)
        send(owner, comptroller, "setAllowCorePoolFallback(uint96,bool)", [number, falls_back])
        for vtoken in chosen:
            factors = [number, vtoken, 9 * WAD // 10, 92 * WAD // 100]
            send(owner, comptroller, "setCollateralFactor(uint96,address,uint256,uint256)", factors)
            bonus = [number, vtoken, 104 * WAD // 100]
            send(owner, comptroller, "setLiquidationIncentive(uint96,address,uint256)", bonus)
            allowed = [number, vtoken, True]
            send(owner, comptroller, "setIsBorrowAllowed(uint96,address,bool)", allowed)
    prices = devnet.prices()
    for account in devnet.users[:5]:
        for symbol in SYMBOLS:
            token = devnet.tokens[symbol]
            amount = 20_000_000 * 10**8 * 10**token.decimals // prices[symbol]
            devnet.give(symbol, account.address, amount)
            spender = found.liquidator if account == devnet.users[4] else vtokens[symbol]
            devnet.send(
                account.address, token.address, "approve(address,uint256)", [spender, MAX_UINT256]
            )
    for number, (held, owed, usd) in enumerate((("WETH", "USDC", 40_000), ("WBTC", "DAI", 9_000))):
        holder = devnet.users[number].address
        one = usd * 10**8 * 10 ** devnet.tokens[held].decimals // prices[held]
        lent = usd * 60 * 10**6 * 10 ** devnet.tokens[owed].decimals // prices[owed]
        devnet.chain.send_all([*found.supply(holder, held, one), found.borrow(holder, owed, lent)])
    yield found
    devnet.revert(before)


class Exact(RuleBasedStateMachine):
    """Acts on the core pool; every rule that succeeded is counted by its name."""

    net: ClassVar[Devnet]
    venus: ClassVar[Venus]
    done: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.before = self.net.snapshot()
        self.following = FollowingVenus(self.net, self.venus)
        self.market = self.following.market
        self.users = [account.address for account in self.net.users[:4]]
        self.liquidator = self.net.users[4].address
        self.opening = self.net.prices()
        self.start = state(self.following.ledger)

    def teardown(self) -> None:
        following = self.following
        end = state(following.ledger)
        for block in reversed(following.blocks):
            following.take_back(block.undos)
        assert state(following.ledger) == self.start
        for block in following.blocks:
            following.fold(block.logs)
        assert state(following.ledger) == end
        again = FollowingVenus(self.net, self.venus)
        assert state(again.ledger)["owing"] == end["owing"]
        self.net.revert(self.before)

    # What borrowers do

    @rule(user=users, symbol=symbols, usd=dollars)
    def supply(self, user: int, symbol: str, usd: int) -> None:
        amount = self.worth(symbol, usd)
        sent = self.venus.supply(self.users[user], symbol, amount)
        self.act("supply", *(each for each in sent if each.data[:4] != APPROVE))

    @rule(turn=turns, share=shares)
    def redeem(self, turn: int, share: int) -> None:
        user, vtoken, balance = self.held(turn)
        data = pack("redeem(uint256)", max(1, balance * share // 200))
        self.act("redeem", Transaction(user, vtoken, data))

    @rule(turn=turns, share=st.integers(1, 99), symbol=symbols)
    def borrow(self, turn: int, share: int, symbol: str) -> None:
        free = [(self.power(user), user) for user in self.users]
        able = [(power, user) for power, user in free if power]
        if not able:
            return
        power, user = able[turn % len(able)]
        price = self.net.call(self.venus.around, "getUnderlyingPrice(address)", [self.v(symbol)])
        amount = power * share // 100 * WAD // price
        self.act("borrow", self.venus.borrow(user, symbol, amount))

    @rule(turn=turns, share=shares, whole=st.booleans())
    def repay(self, turn: int, share: int, whole: bool) -> None:
        debts = [(user, c) for user in self.users for c in self.owed(user)]
        if not debts:
            return
        user, owed = debts[turn % len(debts)]
        debt = owed.owed(Address(user), owed.accrued(self.following.head.number + 1).index)
        amount = debt if whole else max(1, debt * share // 100)
        if owed.is_native:
            self.act("repay", Transaction(user, owed.address, pack("repayBorrow()"), amount))
        else:
            data = pack("repayBorrow(uint256)", MAX_UINT256 if whole else amount)
            self.act("repay", Transaction(user, owed.address, data))

    @rule(turn=turns, other=users, share=shares)
    def transfer(self, turn: int, other: int, share: int) -> None:
        user, vtoken, balance = self.held(turn)
        to = vtoken if share == 7 else self.users[other]
        data = pack("transfer(address,uint256)", to, max(1, balance * share // 300))
        self.act("transfer", Transaction(user, vtoken, data), may_be_refused=True)

    @rule(user=users, symbol=symbols)
    def leave(self, user: int, symbol: str) -> None:
        holder, ledger = Address(self.users[user]), self.following.ledger
        before = ledger.entered.get(holder, 0)
        data = pack("exitMarket(address)", self.v(symbol))
        self.act("leave", Transaction(holder, self.venus.comptroller, data), may_be_refused=True)
        assert ledger.entered.get(holder, 0) in {before, before & ~self.bit(symbol)}

    @rule(user=st.integers(1, 3), pool=st.integers(0, 2))
    def choose_pool(self, user: int, pool: int) -> None:
        data = pack("enterPool(uint96)", pool)
        self.act("choose_pool", Transaction(self.users[user], self.venus.comptroller, data))

    # What happens to them

    @rule(blocks=st.sampled_from([1, 2, 40]))
    def pass_blocks(self, blocks: int) -> None:
        ahead = [self.following.accrued(user, blocks) for user in self.users]
        rates = [
            each.exchange_rate(each.accrued(self.following.head.number + blocks))
            for each in self.following.ledger.ctokens
        ]
        if blocks > 1:
            self.net.rpc("anvil_mine", hex(blocks - 1))
        self.venus.accrue()
        self.finish("pass_blocks", ok=True)
        assert [self.following.stored(user) for user in self.users] == ahead
        assert self.following.rates() == rates

    @rule(symbol=symbols, percent=st.integers(80, 120))
    def move_price(self, symbol: str, percent: int) -> None:
        price = self.opening[symbol] * percent // 100
        self.net.set_price(symbol, price, move_pools=False)
        self.finish("move_price", ok=True)

    @rule(symbol=symbols, choice=st.integers(0, 9), number=shares, on=st.booleans())
    def change_parameter(self, symbol: str, choice: int, number: int, on: bool) -> None:
        vtoken, percent = self.v(symbol), WAD // 100
        threshold = 70 * percent + number * percent // 5
        changes: list[tuple[bytes, str, list[Any]]] = [
            (
                self.venus.comptroller,
                "setCollateralFactor(address,uint256,uint256)",
                [vtoken, threshold - percent, threshold],
            ),
            (
                self.venus.comptroller,
                "setLiquidationIncentive(address,uint256)",
                [vtoken, 104 * percent + number * percent // 10],
            ),
            (
                self.venus.comptroller,
                "setCloseFactor(uint256)",
                [20 * percent + number * percent // 2],
            ),
            (
                self.venus.comptroller,
                "setLiquidationIncentive(uint96,address,uint256)",
                [1, self.v("USDC"), 103 * percent + number * percent // 20],
            ),
            (self.venus.comptroller, "setPoolActive(uint96,bool)", [1 + number % 2, on]),
            (self.venus.comptroller, "setAllowCorePoolFallback(uint96,bool)", [1, on]),
            (self.venus.comptroller, "setForcedLiquidation(address,bool)", [vtoken, False]),
            (vtoken, "_setReserveFactor(uint256)", [number * percent // 2]),
            (self.venus.liquidator, "setTreasuryPercent(uint256)", [number * percent]),
            (
                self.venus.comptroller,
                "_setTreasuryData(address,address,uint256)",
                [self.venus.owner, self.venus.around, number * percent // 1_000],
            ),
        ]
        to, signature, args = changes[choice]
        self.act(
            "change_parameter",
            Transaction(self.venus.owner, to, pack_args(signature, args)),
        )

    @rule(turn=turns, pair=turns, share=st.sampled_from([100, 100, 60, 5]), far=st.booleans())
    def liquidate(self, turn: int, pair: int, share: int, far: bool) -> None:
        """Make a borrower unhealthy by its debt's price, and liquidate it as predicted."""
        debtors = [user for user in self.users if self.owed(user)]
        if not debtors:
            return
        borrower = debtors[turn % len(debtors)]
        moved = self.raise_debt(borrower, 75 if far else 97)
        position = self.following.at_next(borrower)
        at = self.following.later()
        found, _ = self.market.pairs(position, self.following.prices, at)
        if found:
            self.take(borrower, found[pair % len(found)], share)
        if moved:
            self.net.set_prices(moved, move_pools=False)
            self.finish("move_price", ok=True)

    # How each step is done and judged

    def take(self, borrower: bytes, terms: CompoundTerms, share: int) -> None:
        size = terms.legal_down(max(1, terms.maximum * share // 100))
        if not size:
            return
        execution = self.market.execution(terms)
        whole = execution.opening + word(borrower) + word(size) + execution.closing
        more = execution.opening + word(borrower) + word(terms.maximum + 1) + execution.closing
        assert not self.accepts(execution.target, more, terms.maximum + 1, terms.is_native)
        held = self.net.balance(terms.seized, self.liquidator)
        predicted = self.market.after(self.following.at_next(borrower), terms, size)
        value = size if terms.is_native else 0
        sent = Transaction(self.liquidator, execution.target, whole, value)
        (mined,) = self.net.chain.send_all([sent], check=False)
        assert mined.ok, f"{size} of {terms} was refused"
        got = self.net.balance(terms.seized, self.liquidator) - held
        assert got == terms.seize(size).received
        self.finish("liquidate", ok=True)
        # All of the position's figures are as of that block; what is not of the pair accrues on.
        left = self.market.position(
            Address(borrower), self.following.prices, self.following.later(0)
        )
        assert left is not None
        seized = {leg.token: leg.amount for leg in left.collateral}
        assert seized == {leg.token: leg.amount for leg in predicted.collateral}
        assert left.debt == predicted.debt
        assert left.category == predicted.category

    def accepts(self, to: bytes, data: bytes, amount: int, native: bool) -> bool:
        request = {"from": hexed(self.liquidator), "to": hexed(to), "data": hexed(data)}
        if native:
            request["value"] = hex(amount)
        number = {"number": hex(self.following.head.number + 1)}
        try:
            self.net.rpc("eth_call", request, "latest", {}, number)
        except Exception:  # noqa: BLE001 - any refusal will do
            return False
        return True

    def raise_debt(self, borrower: bytes, health: int) -> dict[str, int]:
        """Raise the price of a debt, or lower that of collateral; return the prices before."""
        prices, position = self.net.prices(), self.following.at_next(borrower)
        if position.health * 100 < health * WAD:
            return {}
        owed = {leg.token.symbol for leg in position.debt}
        held = {leg.token.symbol[1:] for leg in position.collateral} - owed
        symbol = {symbol: prices[symbol] for symbol in held}
        lower = {
            each: max(1, price * health * WAD // (100 * position.health))
            for each, price in symbol.items()
        }
        if lower:
            self.net.set_prices(lower, move_pools=False)
            self.finish("move_price", ok=True)
        return symbol

    def act(self, name: str, *sent: Transaction, may_be_refused: bool = False) -> None:
        mined = self.net.chain.send_all(list(sent), check=False)
        ok = all(each.ok for each in mined)
        if may_be_refused:
            # These return an error and a Failure event instead of reverting.
            ok = ok and not any(log["topics"][0] == FAILURE for each in mined for log in each.logs)
        self.finish(name, ok=ok)

    def finish(self, name: str, *, ok: bool) -> None:
        """Follow the chain and compare everything with it."""
        if ok:
            self.done[name] += 1
        following = self.following
        following.follow()
        assert following.drifts() == []
        assert following.rates() == following.chain_rates()
        prices, at = following.prices, following.later()
        collateral_factors, debt_factors = self.market.factors(prices, at)
        assert list(map(following.stored, self.users)) == self.venus.liquidities(self.users)
        for user in self.users:
            position = following.at_next(user)
            if position.debt_value < 100 * WAD * WAD:
                continue
            held, owed = self.market.legs(Address(user))
            weighted = sum(float(n) * collateral_factors[number] for number, n in held)
            owing = sum(float(n) * debt_factors[number] for number, n in owed)
            # The screen is under every pair, by the interest of one block at most here.
            assert weighted / owing <= position.health / WAD * (1 + 1e-6)

    def held(self, turn: int) -> tuple[bytes, bytes, int]:
        """Return one of all balances: whose, of which vToken, how much."""
        found = [
            (user, each.address, balance)
            for user in self.users
            for each in self.following.ledger.ctokens
            if (balance := each.balances.get(Address(user), 0))
        ]
        return found[turn % len(found)]

    def owed(self, user: bytes) -> list[ctoken.CToken]:
        return [c for c in self.following.ledger.ctokens if Address(user) in c.debts]

    def power(self, user: bytes) -> int:
        signature, words = "getBorrowingPower(address)", ["uint256"] * 3
        return int(self.net.call(self.venus.comptroller, signature, [user], words)[1])

    def worth(self, symbol: str, usd: int) -> int:
        return int(usd * 10**8 * 10 ** self.net.tokens[symbol].decimals // self.opening[symbol])

    def v(self, symbol: str) -> bytes:
        return self.venus.vtokens[symbol]

    def bit(self, symbol: str) -> int:
        return 1 << self.following.ledger.by_address[Address(self.v(symbol))].id


def pack(signature: str, *args: Any) -> bytes:
    return pack_args(signature, list(args))


def pack_args(signature: str, args: list[Any]) -> bytes:
    return calldata(signature, args)


def word(value: int | bytes) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def hexed(raw: bytes) -> str:
    return "0x" + raw.hex()


APPROVE = pack("approve(address,uint256)", bytes(20), 0)[:4]
FAILURE = "0x45b96fe442630264581b197e84bbada861235052c5a1aadfff9ea4e40a969aa0"


@pytest.mark.timeout(280)
def test_the_ledger_equals_the_contracts(
    devnet: Devnet, venus: Venus, record_property: Callable[[str, object], None]
) -> None:
    done: Counter[str] = Counter()
    for number in SEEDS:

        class Seeded(Exact):
            pass

        Seeded.net, Seeded.venus, Seeded.done = devnet, venus, Counter()
        run_state_machine_as_test(
            seed(number)(Seeded),
            settings=settings(
                max_examples=RUNS,
                stateful_step_count=STEPS,
                phases=(Phase.explicit, Phase.generate),
                suppress_health_check=list(HealthCheck),
                database=None,
                deadline=None,
            ),
        )
        print(f"\nseed {number}: {Seeded.done.total()} steps, {dict(sorted(Seeded.done.items()))}")
        done.update(Seeded.done)
    record_property("steps", dict(done))
    assert set(done) == RULES
    assert done.total() >= 200
    assert min(done.values()) >= 5
    assert done["liquidate"] >= 10


FLIPPED = (
    (valuation, "value_down"),
    (ctoken, "borrow_balance_down"),
    (ctoken, "exchange_rate_down"),
    (ctoken, "accrue_down"),
    (terms_module, "seize_down"),
    (terms_module, "treasury_seize_down"),
)
"""Truncations that decide about a unit; those of ratios in wad move less, and have unit tests."""


def test_every_rounding_is_held(
    devnet: Devnet, venus: Venus, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = devnet.snapshot()
    judge(devnet, venus)
    noticed = []
    for module, name in FLIPPED:
        devnet.revert(before)
        before = devnet.snapshot()
        with monkeypatch.context() as patch:
            flipped = value_up if name == "value_down" else up(getattr(module, name))
            patch.setattr(module, name, flipped)
            try:
                judge(devnet, venus)
            except (AssertionError, IncompleteError):
                noticed.append(name)
    devnet.revert(before)
    assert noticed == [name for _, name in FLIPPED]


def value_up(amount: int, price: int) -> int:
    """Return an amount's value, rounded up: one more of collateral and of debt would cancel out."""
    return -(-price * amount // WAD)


def up(rounded: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that gives one more than another."""

    def more(*args: Any) -> Any:
        found = rounded(*args)
        if isinstance(found, exponential.Accrued):
            return replace(found, index=found.index + 1)
        return found + 1

    return more


def judge(net: Devnet, venus: Venus) -> None:
    """Predict interest and a liquidation of one borrower, and compare with what happens."""
    borrower, other, liquidator = (net.users[number].address for number in (0, 2, 4))
    supplying = venus.supply(other, "USDC", 90_000 * 10**6 + 1)[1:]
    net.chain.send_all([*supplying, venus.borrow(other, "WETH", 7 * WAD + 3)])
    following = FollowingVenus(net, venus)
    assert following.stored(borrower) == venus.liquidity(borrower)
    assert following.rates() == following.chain_rates()
    net.set_price("WETH", net.price("WETH") * 7 // 10 + 12_345_679, move_pools=False)
    following.follow()
    ahead = following.accrued(borrower)
    venus.accrue()
    following.follow()
    indexes = [each.accrued(following.head.number + 1).index for each in following.ledger.ctokens]
    assert (following.stored(borrower), following.drifts()) == (ahead, [])
    position = following.at_next(borrower)
    (terms,), _ = following.market.pairs(position, following.prices, following.later())
    execution, size = following.market.execution(terms), terms.maximum
    data = execution.opening + word(borrower) + word(size) + execution.closing
    net.chain.send_all([Transaction(liquidator, execution.target, data)])
    assert net.balance(terms.seized, liquidator) == terms.seize(size).received
    following.follow()
    assert venus.liquidity(borrower) == following.stored(borrower)
    stored = [net.call(each.address, "borrowIndex()") for each in following.ledger.ctokens]
    changed = {terms.borrowed, terms.seized}
    for each, index, chain in zip(following.ledger.ctokens, indexes, stored, strict=True):
        assert index == chain or each.address not in changed
