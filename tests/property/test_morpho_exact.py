"""The ledger equals the real Morpho Blue to the wei, whatever borrowers, lenders, owner and time do.

Random walks act on two markets. They are loaded once and then kept by folding logs; after every step
all totals and all borrowers equal the contract's, interest was foretold before it was accrued, and every
liquidation is predicted, what it leaves included, the refused ones too. At the end all folds are taken
back and done again. A walk with one rounding turned round has to fail.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from keeper.chain.words import topic, uint
from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.calls import calldata
from keeper.devnet.chain import Transaction
from keeper.devnet.morpho import PARAMS, Morpho, MorphoMarket, borrower, deploy_morpho
from keeper.protocols.morpho_blue import fixed, ledger, rates
from keeper.protocols.morpho_blue.events import LIQUIDATE
from keeper.protocols.morpho_blue.ledger import Totals
from keeper.protocols.morpho_blue.terms import Way
from keeper.types import Position
from keeper.units import MAX_UINT256, WAD, Hash
from tests.aave import BLOCK_SECONDS
from tests.morpho import MorphoFollowing, state

pytestmark = pytest.mark.chain

SEEDS = (3, 17, 29, 41)
STEPS = 65
ACCRUED = topic("AccrueInterest(bytes32,uint256,uint256,uint256)")
CALL = f"liquidate({PARAMS},address,uint256,uint256,bytes)"
FLIPPED = ("assets_up", "shares_up", "seized_down", "repaid_up", "compounded_down")
"""Roundings that a short walk finds turned round, each on its own."""


@pytest.fixture(scope="module")
def morpho(devnet: Devnet) -> Iterator[tuple[Devnet, Morpho, tuple[MorphoMarket, ...]]]:
    """Two markets of different units, with lenders, five people with tokens, and a liquidator."""
    before = devnet.snapshot()
    made, tokens = deploy_morpho(devnet.chain), devnet.tokens
    markets = (
        made.market(tokens["USDC"], tokens["WETH"], 86 * 10**16),
        made.market(tokens["WETH"], tokens["WBTC"], 915 * 10**15),
    )
    for market in markets:
        unit = 10**market.loan.decimals
        made.supply(market, 4_000_000 * 10**8 * unit // devnet.price(market.loan.symbol))
    people = [borrower(number) for number in range(5)]
    for symbol in ("USDC", "WETH", "WBTC"):
        amount = 10**7 * 10**8 * 10 ** tokens[symbol].decimals // devnet.price(symbol)
        for who in people:
            devnet.give(symbol, who, amount)
        allowed = [made.address, MAX_UINT256]
        devnet.chain.send_all(
            [
                Transaction(who, tokens[symbol].address, calldata("approve(address,uint256)", args))
                for who in (*people, Cast.RIVAL)
                for args in ([made.address, 0], allowed)
            ]
        )
    for market in markets:
        # one debt that is never touched: what nobody owes in is not priced
        made.set_price(market, market_price(devnet, market))
        unit = 10**market.collateral.decimals
        made.open(market, [(borrower(99), 100 * unit, 10**market.loan.decimals)])
    yield devnet, made, markets
    devnet.revert(before)


def market_price(net: Devnet, market: MorphoMarket) -> int:
    return market.quotient(net.price(market.collateral.symbol), net.price(market.loan.symbol))


@dataclass
class Walk:
    """One run: what acts, what follows, and how often each rule succeeded."""

    net: Devnet
    morpho: Morpho
    markets: list[MorphoMarket]
    draw: random.Random
    done: Counter[str] = field(default_factory=Counter)
    foretold: int = 0

    def __post_init__(self) -> None:
        for market in self.markets:
            self.morpho.set_price(market, self.fair(market))
        self.people = [borrower(number) for number in range(5)]
        self.following = MorphoFollowing(self.net, self.morpho)
        self.start = state(self.following.ledger)

    def fair(self, market: MorphoMarket) -> int:
        return market_price(self.net, market)

    def send(
        self, rule: str, who: bytes, market: MorphoMarket, signature: str, *args: object
    ) -> bool:
        """Send a call, follow its block and compare everything; count it when it succeeded."""
        transaction = self.morpho.call(who, market, signature, *args)
        (mined,) = self.net.chain.send_all([transaction], check=False)
        self.follow()
        self.done[rule] += mined.ok
        return mined.ok

    def follow(self) -> None:
        """Fold what was mined; its interest has to be what was foretold for its time."""
        following = self.following
        pools = following.ledger.numbered
        number = self.net.chain.block_number()
        while following.head.number < number:
            head = following.run(following.reader.head(following.head.number + 1))
            expected = {pool.id: (pool.totals, pool.at(head.timestamp)) for pool in pools}
            following.head = head
            logs = following.logs(head.hash)
            following.blocks.append((head, logs, following.fold(logs)))
            for log in logs:
                if log.topics[0] == ACCRUED and log.topics[1] in expected:
                    before, after = expected.pop(Hash(log.topics[1]))
                    assert isinstance(after, Totals)
                    assert uint(log.data, 1) == after.borrow_assets - before.borrow_assets
                    assert uint(log.data, 2) == after.supply_shares - before.supply_shares
                    self.foretold += 1
        following.observe()
        assert following.drifts() == []

    def choose(self) -> tuple[MorphoMarket, bytes]:
        return self.draw.choice(self.markets), self.draw.choice(self.people)

    def owing(self) -> list[tuple[MorphoMarket, bytes]]:
        """Return who has a debt in which market."""
        return [
            (market, who)
            for market in self.markets
            for who in self.people
            if self.coming(market, who).debt
        ]

    def coming(self, market: MorphoMarket, who: bytes) -> Position:
        """Return a position as the next block will find it."""
        return self.following.position(market, who, BLOCK_SECONDS)

    def check_end(self) -> None:
        """Take every fold back and do it again."""
        following = self.following
        end = state(following.ledger)
        for _, _, undos in reversed(following.blocks):
            for undo in reversed(undos):
                undo()
        assert state(following.ledger) == self.start
        for _, logs, _ in following.blocks:
            following.fold(logs)
        assert state(following.ledger) == end


def supply(walk: Walk) -> None:
    market, who = walk.choose()
    amount = walk.draw.randrange(1, 10 ** (market.loan.decimals + 2))
    name = f"supply({PARAMS},uint256,uint256,address,bytes)"
    walk.send("supply", who, market, name, amount, 0, who, b"")


def withdraw(walk: Walk) -> None:
    market, _ = walk.choose()
    shares = walk.draw.randrange(1, 10 ** (market.loan.decimals + 8))
    name = f"withdraw({PARAMS},uint256,uint256,address,address)"
    walk.send("withdraw", Cast.TRADER, market, name, 0, shares, Cast.TRADER, Cast.TRADER)


def put_up(walk: Walk) -> None:
    market, who = walk.choose()
    amount = walk.draw.randrange(1, 3 * 10**market.collateral.decimals)
    name = f"supplyCollateral({PARAMS},uint256,address,bytes)"
    walk.send("put_up", who, market, name, amount, who, b"")


def take_out(walk: Walk) -> None:
    market, who = walk.choose()
    position = walk.coming(market, who)
    if not position.collateral:
        return
    amount = max(position.collateral[0].amount // walk.draw.randrange(2, 40), 1)
    name = f"withdrawCollateral({PARAMS},uint256,address,address)"
    walk.send("take_out", who, market, name, amount, who, who)


def borrow(walk: Walk) -> None:
    market, who = walk.choose()
    position = walk.coming(market, who)
    held = position.collateral[0].amount if position.collateral else 0
    price = walk.following.prices.values[market.id]  # type: ignore[index]
    most = fixed.most_borrowed_down(held, price, market.lltv)
    room = most - (position.debt[0].amount if position.debt else 0)
    if room <= 1:
        return
    # up to the last wei, which rounding may forbid, and beyond
    amount = walk.draw.choice([room + 1, room, room - 1, room * 9 // 10, room // 3])
    name = f"borrow({PARAMS},uint256,uint256,address,address)"
    lent = walk.send("borrow", who, market, name, amount, 0, who, who)
    assert lent or amount >= room - 1
    assert not lent or amount <= room


def repay(walk: Walk) -> None:
    owing = walk.owing()
    if not owing:
        return
    market, who = walk.draw.choice(owing)
    position = walk.coming(market, who)
    shares = position.state[1]
    part = walk.draw.choice([shares, shares // 2, shares // 7, 1])
    name = f"repay({PARAMS},uint256,uint256,address,bytes)"
    walk.send("repay", who, market, name, 0, max(part, 1), who, b"")


def move_price(walk: Walk) -> None:
    market, _ = walk.choose()
    price = walk.fair(market) * walk.draw.randrange(45, 110) // 100 + walk.draw.randrange(10**6)
    walk.morpho.set_price(market, price)
    walk.follow()
    walk.done["move_price"] += 1


def pass_time(walk: Walk) -> None:
    walk.net.mine(1, walk.draw.choice([1, 12, 3_600, 86_400 * 30]))
    market, _ = walk.choose()
    walk.send("pass_time", Cast.RIVAL, market, f"accrueInterest({PARAMS})")


def set_fee(walk: Walk) -> None:
    market, _ = walk.choose()
    fee = walk.draw.randrange(25) * WAD // 100
    walk.send("set_fee", Cast.DEPLOYER, market, f"setFee({PARAMS},uint256)", fee)


def liquidate(walk: Walk) -> None:
    """Take all or a part of whoever is under water, exactly as predicted; or be refused."""
    market, who = walk.choose()
    weak = [each for each in walk.owing() if walk.coming(*each).health < WAD]
    if weak:
        market, who = walk.draw.choice(weak)
    following, at = walk.following, walk.following.at(BLOCK_SECONDS)
    position = walk.coming(market, who)
    pairs, skips = following.market.pairs(position, following.prices, at)
    if not pairs:
        assert bool(skips) == (position.health < WAD)
        refused = walk.morpho.call(Cast.RIVAL, market, CALL, who, 0, 1, b"")
        assert not walk.net.chain.send_all([refused], check=False)[0].ok
        walk.follow()
        walk.done["refused"] += 1
        return
    (terms,) = pairs
    share = walk.draw.choice([1, 1, 2, 3, 10])
    legal = terms.legal_down(terms.maximum // share)
    if not legal:
        return
    word, expected = terms.word(legal), terms.seize(legal)
    named = (0, word) if terms.way is Way.SHARES else (word, 0)
    left = following.market.after(position, terms, legal)
    assert walk.send("liquidate", Cast.RIVAL, market, CALL, who, *named, b"")
    (log,) = [each for each in following.blocks[-1][1] if each.topics[0] == LIQUIDATE]
    assert (uint(log.data), uint(log.data, 2)) == (expected.repaid, expected.received)
    assert following.position(market, who) == left
    walk.done["bad_debt"] += uint(log.data, 3) > 0
    told = following.market.liquidation(log)
    assert told is not None
    assert told[0] == who
    assert following.market.place_told(log) == position.market
    assert told[3:5] == (expected.repaid, expected.received)


RULES: tuple[tuple[Callable[[Walk], None], int], ...] = (
    (supply, 2),
    (withdraw, 2),
    (put_up, 4),
    (take_out, 3),
    (borrow, 6),
    (repay, 3),
    (move_price, 4),
    (pass_time, 2),
    (set_fee, 2),
    (liquidate, 6),
)


def storm(walk: Walk) -> None:
    """Have everybody borrow what they may, and take parts of them on the way down."""
    for market in walk.markets:
        for who in walk.people:
            position = walk.coming(market, who)
            amount = 2 * 10**market.collateral.decimals + walk.draw.randrange(10**6)
            name = f"supplyCollateral({PARAMS},uint256,address,bytes)"
            walk.send("put_up", who, market, name, amount, who, b"")
            held = walk.coming(market, who).collateral[0].amount
            most = fixed.most_borrowed_down(held, walk.fair(market), market.lltv)
            amount = most - (position.debt[0].amount if position.debt else 0)
            name = f"borrow({PARAMS},uint256,uint256,address,address)"
            walk.send("borrow", who, market, name, amount * 99 // 100, 0, who, who)
    for percent in (96, 55):
        for market in walk.markets:
            price = walk.fair(market) * percent // 100 + walk.draw.randrange(10**6)
            walk.morpho.set_price(market, price)
        walk.follow()
        for _ in range(8):
            liquidate(walk)


def walked(
    place: tuple[Devnet, Morpho, tuple[MorphoMarket, ...]],
    seed: int,
    act: Callable[[Walk], None],
) -> Walk:
    net, morpho, markets = place
    before = net.snapshot()
    try:
        walk = Walk(net, morpho, list(markets), random.Random(seed))
        act(walk)
        walk.check_end()
        return walk
    finally:
        net.revert(before)


def wander(walk: Walk) -> None:
    """Let three people put something up, then do whatever comes."""
    rules, weights = zip(*RULES, strict=True)
    for market in walk.markets:
        for who in walk.people[:3]:
            name = f"supplyCollateral({PARAMS},uint256,address,bytes)"
            amount = 2 * 10**market.collateral.decimals
            walk.send("put_up", who, market, name, amount, who, b"")
    for _ in range(STEPS):
        walk.draw.choices(rules, weights)[0](walk)


def test_walks_end_as_the_contract_says(morpho) -> None:
    done: Counter[str] = Counter()
    foretold = 0
    walks = [(seed, wander) for seed in SEEDS] + [(SEEDS[0], storm)]
    for seed, act in walks:
        print(f"seed {seed}, {act.__name__}")
        walk = walked(morpho, seed, act)
        done += walk.done
        foretold += walk.foretold
    print(dict(done), foretold)
    assert sum(done.values()) - done["refused"] - done["bad_debt"] >= 200
    assert done["liquidate"] >= 25
    assert done["bad_debt"] >= 3
    assert foretold >= 100
    assert min(done[rule.__name__] for rule, _ in RULES) >= 5


@pytest.mark.parametrize("name", FLIPPED)
def test_a_rounding_turned_round_is_found(morpho, monkeypatch, name) -> None:
    exact = getattr(fixed, name)

    def flipped(*args: int) -> int:
        return int(exact(*args)) + (-1 if name.endswith("_up") else 1)

    for module in (fixed, rates, ledger):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, flipped)
    with pytest.raises(AssertionError):
        walked(morpho, SEEDS[0], storm)
