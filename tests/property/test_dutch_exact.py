"""A Clipper's auctions and the urns behind it equal the stand-ins' to the wei, whatever is done.

Random walks with a ledger kept by logs; after every step each auction, its price, whether it has to
be started anew, each urn, and what may be called on both equal what the contracts say and do. At the
end all folds are taken back.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from keeper.devnet import Cast, Devnet
from keeper.devnet.maker import (
    BARK,
    CUT,
    ILK,
    RAD,
    REDO,
    STEP,
    VOW,
    Maker,
    code,
    deploy_maker,
)
from keeper.protocols.maker_clip import dutch
from keeper.protocols.maker_clip.dutch import affordable_down, bark, buy, reward_down
from keeper.protocols.maker_clip.ledger import Kind, Sale, Urn
from keeper.units import MAX_UINT256, RAY, WAD, Address
from tests.aave import BLOCK_SECONDS
from tests.maker import ClipFollowing, price_of

pytestmark = pytest.mark.chain

SEEDS = (2, 13, 31, 47)
STEPS = 70
TAKER = b"\x7a" * 20
KEEPER = b"\x7b" * 20


@pytest.fixture(scope="module")
def maker(devnet: Devnet) -> Iterator[Maker]:
    before = devnet.snapshot()
    made = deploy_maker(devnet, price_of(devnet))
    devnet.give("DAI", TAKER, 50_000_000 * WAD)
    devnet.send(TAKER, made.dai, "approve(address,uint256)", [made.auctioneer, MAX_UINT256])
    yield made
    devnet.revert(before)


@dataclass
class Walk:
    """One random walk over what anybody may do."""

    maker: Maker
    chance: random.Random
    opened: list[bytes] = field(default_factory=list)
    taken: int = 0
    barked: int = 0
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.price = price_of(self.maker.net)
        self.at = ClipFollowing(self.maker)

    @property
    def sales(self) -> dict[int, Sale]:
        return self.at.ledger.sales

    @property
    def figures(self):
        found = self.at.market._figures
        assert found is not None
        return found

    @property
    def soon(self) -> int:
        return self.at.head.timestamp + BLOCK_SECONDS

    def compare(self) -> None:
        maker, ledger = self.maker, self.at.ledger
        net = maker.net
        numbers, now = list(self.sales), self.at.head.timestamp
        assert sorted(numbers) == sorted(maker.running())
        words = ["uint256", "uint256", "uint256", "address", "uint256", "uint256"]
        asked = [(maker.clip, "sales(uint256)", [each]) for each in numbers]
        held = net.chain.call_many(asked, words, "latest")
        for number, told, state in zip(numbers, held, maker.statuses(numbers), strict=True):
            sale = self.sales[number]
            assert sale == Sale(told[1], told[2], told[4], told[5])
            auction = self.figures.auction(sale)
            expected = (auction.needs_redo(now), auction.price_at(now), sale.lot, sale.tab)
            assert state == expected
        for owner, urn in zip(self.opened, maker.urns(self.opened), strict=True):
            assert ledger.urns.get(Address(owner), Urn(0, 0)) == urn
        debts, rate, spot, _, dust = net.call(maker.vat, "ilks(bytes32)", [ILK], ["uint256"] * 5)
        assert ledger.kind == Kind(rate, spot, dust)
        assert sum(urn.art for urn in ledger.urns.values()) == debts

    def pick(self, *, done: bool = False) -> int | None:
        """Return an auction, of those that have to be started anew, or of the others."""
        found = sorted(
            number
            for number, sale in self.sales.items()
            if self.figures.auction(sale).needs_redo(self.soon) == done
        )
        return self.chance.choice(found or sorted(self.sales)) if self.sales else None

    def over(self) -> bool:
        auctions = (self.figures.auction(sale) for sale in self.sales.values())
        return all(auction.needs_redo(self.soon) for auction in auctions)

    def run(self) -> None:
        for _ in range(STEPS):
            name = self.chance.choice([*RULES, "take_part", "take_part"])
            if not self.sales or (name not in {"redo", "bark"} and self.over()):
                name = "bark"
            self.done[name] += RULES[name](self)
            self.at.follow()
            self.compare()
        assert not self.audit()
        self.plant()
        self.at.take_back()
        assert not self.sales
        assert not self.at.ledger.urns

    def audit(self):
        return self.at.run(self.at.market.audit(self.at.reader, self.at.head, 50, 1))

    def plant(self) -> None:
        """See that an audit finds what is not so."""
        owner, right = next(iter(self.at.ledger.urns.items()))
        self.at.ledger.urns[owner] = right._replace(ink=right.ink + 1)
        (drift,) = self.audit()
        assert (drift.held, drift.actual) == (right.ink + 1, right.ink)
        self.at.ledger.urns[owner] = right
        if self.sales:
            number, sale = next(iter(self.sales.items()))
            self.sales[number] = sale._replace(lot=sale.lot + 1)
            (drift,) = self.audit()
            assert (drift.held, drift.actual) == (sale.lot + 1, sale.lot)
            self.sales[number] = sale


def open_urn(walk: Walk, least: int = 40, most: int = 80) -> bool:
    urn, ink = (len(walk.opened) + 1).to_bytes(20, "big"), walk.chance.randrange(5, 60) * WAD
    art = ink * walk.price * walk.chance.randrange(least, most) // (RAY * 100)
    walk.maker.open_urns({urn: (ink, max(art, 6_000 * WAD))})
    walk.opened.append(urn)
    walk.at.follow()
    return True


def start(walk: Walk) -> bool:
    """Bark at an urn, mostly an unsafe one, and see that what is reckoned happens, or nothing."""
    maker, ledger = walk.maker, walk.at.ledger
    if walk.chance.random() < 0.5:
        open_urn(walk, 70)
    vaults = {
        owner: walk.figures.vault(urn, ledger.kind)
        for owner, urn in sorted(ledger.urns.items())
        if urn.art
    }
    unsafe = [owner for owner, vault in vaults.items() if bark(vault)]
    if not vaults:
        return open_urn(walk)
    owner = walk.chance.choice(unsafe if unsafe and walk.chance.random() < 0.9 else list(vaults))
    expected, figures = bark(vaults[owner]), walk.figures
    before = maker.net.call(maker.vat, "dai(address)", [KEEPER])
    ok = maker.net.send(KEEPER, maker.clip, BARK, [ILK, owner, KEEPER], check=False).ok
    assert ok == (expected is not None)
    if expected is not None:
        sale = walk.maker.statuses([maker.net.call(maker.clip, "kicks()")])[0]
        assert sale[2:] == (expected.lot, expected.tab)
        paid = maker.net.call(maker.vat, "dai(address)", [KEEPER]) - before
        assert paid == reward_down(expected.tab, figures.tip, figures.chip)
        walk.barked += 1
    return ok


def _take(walk: Walk, share: int) -> bool:
    number, maker = walk.pick(), walk.maker
    if number is None:
        return False
    auction = walk.figures.auction(walk.sales[number])
    price = auction.price_at(walk.soon)
    pay = -(-min(auction.lot * price, auction.tab) * share // (100 * RAY))
    amount = affordable_down(auction, pay, price) if price else 0
    due = None if auction.needs_redo(walk.soon) else buy(auction, amount, price)
    before = [maker.net.balance(token, TAKER) for token in (maker.weth, maker.dai)]
    args = [int.from_bytes(maker.name_of(number), "big"), pay]
    ok = maker.net.send(TAKER, maker.auctioneer, "take(uint256,uint256)", args, check=False).ok
    assert ok == (due is not None)
    if due is not None:
        after = [maker.net.balance(token, TAKER) for token in (maker.weth, maker.dai)]
        assert after == [before[0] + due.slice, before[1] - due.cost_up]
        walk.taken += 1
    return ok


def redo(walk: Walk) -> bool:
    number, maker = walk.pick(done=True), walk.maker
    if number is None:
        return False
    if not walk.figures.auction(walk.sales[number]).needs_redo(walk.soon):
        maker.net.mine(seconds=8_500)
    return maker.net.send(Cast.RIVAL, maker.clip, REDO, [number, Cast.RIVAL], check=False).ok


def pass_time(walk: Walk) -> bool:
    walk.maker.net.mine(seconds=walk.chance.choice([12, 90, 700]))
    return True


def move_price(walk: Walk) -> bool:
    walk.price = walk.price * walk.chance.randrange(93, 107) // 100
    walk.maker.poke(walk.price)
    return True


def charge(walk: Walk) -> bool:
    """Raise the rate of all debts, as a drip of the Jug does."""
    more = RAY * walk.chance.randrange(1, 50) // 10_000
    maker = walk.maker
    maker.net.send(Cast.DEPLOYER, maker.vat, "fold(bytes32,address,int256)", [ILK, VOW, more])
    return True


def manage(walk: Walk) -> bool:
    """Repay some of an urn, or move a safe one to another owner."""
    maker, safe = walk.maker, []
    if walk.chance.random() < 0.5:
        open_urn(walk, 30, 40)
    rate, spot = walk.at.ledger.kind.rate, walk.at.ledger.kind.spot
    for owner, urn in sorted(walk.at.ledger.urns.items()):
        if urn.art and urn.ink * spot > urn.art * rate * 12 // 10:
            safe.append((owner, urn))
    if not safe:
        return False
    owner, urn = walk.chance.choice(safe)
    if walk.chance.random() < 0.5:
        back = max(urn.art - DUST_ART, 0) // 2
        return maker.frob(owner, 0, -back, check=False)
    other = (1 << 100 | len(walk.opened)).to_bytes(20, "big")
    maker.net.send(other, maker.vat, "hope(address)", [owner])
    signature = "fork(bytes32,address,address,int256,int256)"
    ok = maker.net.send(
        owner, maker.vat, signature, [ILK, owner, other, urn.ink, urn.art], check=False
    ).ok
    walk.opened += [other]
    return ok


def limit(walk: Walk) -> bool:
    """Leave room for some of the debts only, or for all."""
    room = walk.chance.choice([3_000, 60_000, 200_000, 10_000_000]) * RAD
    maker = walk.maker
    running = maker.net.call(maker.clip, "Dirt()")
    own = running + room
    maker.net.send(Cast.DEPLOYER, maker.clip, "set_holes(uint256,uint256)", [own + RAD, own])
    return True


def recalculate(walk: Walk) -> bool:
    """Have governance name another calculator, or set this one's figures."""
    maker, chance = walk.maker, walk.chance
    if chance.random() < 0.5:
        cut, step = CUT - chance.randrange(10) * RAY // 1_000, STEP + chance.randrange(3) * 30
        named = maker.net.deploy(code("stairs_stand_in", ["uint256"] * 2, [cut, step]))
    else:
        named = maker.net.deploy(
            code("line_stand_in", ["uint256"], [chance.randrange(9_000, 20_000)])
        )
    maker.net.send(Cast.DEPLOYER, maker.clip, "set_calc(address)", [named])
    walk.at.follow()
    assert walk.at.market._figures is None
    maker.net.mine()
    return True


DUST_ART = 5_000 * WAD
RULES: dict[str, Callable[[Walk], bool]] = {
    "open": open_urn,
    "bark": start,
    "take_part": lambda walk: _take(walk, walk.chance.randrange(1, 90)),
    "take_all": lambda walk: _take(walk, 100),
    "redo": redo,
    "pass_time": pass_time,
    "move_price": move_price,
    "charge": charge,
    "manage": manage,
    "limit": limit,
    "recalculate": recalculate,
}


def walked(maker: Maker, number: int) -> Walk:
    before = maker.net.snapshot()
    try:
        walk = Walk(maker, random.Random(number))
        walk.run()
        return walk
    finally:
        maker.net.revert(before)


def test_auctions_are_exact_whatever_happens(maker: Maker) -> None:
    done: Counter[str] = Counter()
    taken = barked = 0
    for number in SEEDS:
        try:
            walk = walked(maker, number)
        except AssertionError as error:
            raise AssertionError(f"seed {number}: {error}") from error
        done.update(walk.done)
        taken, barked = taken + walk.taken, barked + walk.barked
    assert sum(done.values()) >= 200, done
    assert min(done[name] for name in RULES) >= 5, done
    assert taken >= 10
    assert barked >= 10


def test_a_rounding_the_other_way_is_found(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    right = dutch.rpow_near
    monkeypatch.setattr(dutch, "rpow_near", lambda *args: right(*args) - 1)
    with pytest.raises(AssertionError):
        walked(maker, SEEDS[0])
