"""A Clipper's auctions equal the stand-in's to the wei, whatever is barked, taken and started anew.

Random walks with a ledger kept by logs; after every step each auction, its price and whether it has
to be started anew equal what the contract says. At the end all folds are taken back.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from keeper.chain import parse
from keeper.chain.reader import ChainReader
from keeper.devnet import Cast, Devnet
from keeper.protocols.maker_clip import MakerClip, dutch
from keeper.protocols.maker_clip.dutch import take
from keeper.protocols.maker_clip.ledger import Sale
from keeper.types import Undo
from keeper.units import MAX_UINT256, RAY, WAD, to_hex
from tests.aave import BLOCK_SECONDS, DirectRpc
from tests.maker import BARK, ILK, REDO, TAKE, Maker, deploy_maker

pytestmark = pytest.mark.chain

SEEDS = (2, 13, 31, 47)
STEPS = 58
TAKER = b"\x7a" * 20


@pytest.fixture(scope="module")
def maker(devnet: Devnet) -> Iterator[Maker]:
    before = devnet.snapshot()
    made = deploy_maker(devnet, devnet.price("WETH") * RAY // 10**8)
    devnet.send(TAKER, made.address, "hope(address)", [made.address])
    devnet.give("DAI", TAKER, 50_000_000 * WAD)
    devnet.send(TAKER, made.dai, "approve(address,uint256)", [made.address, MAX_UINT256])
    devnet.send(TAKER, made.address, "join_dai(address,uint256)", [TAKER, 50_000_000 * WAD])
    yield made
    devnet.revert(before)


@dataclass
class Walk:
    """One random walk over what anybody may do."""

    maker: Maker
    chance: random.Random
    urns: int = 0
    taken: int = 0
    done: Counter[str] = field(default_factory=Counter)
    undos: list[Undo] = field(default_factory=list)

    def __post_init__(self) -> None:
        maker, net = self.maker, self.maker.net
        self.price = net.price("WETH") * RAY // 10**8
        self.reader = ChainReader(DirectRpc(net))
        self.head = asyncio.run(self.reader.head())
        config = MakerClip.Config(
            clip=to_hex(maker.address),
            vat=to_hex(maker.address),
            callee=to_hex(maker.callee),
            data=(to_hex(maker.operator.contract),),
            collateral=to_hex(maker.weth),
            debt=to_hex(maker.dai),
            feed=to_hex(net.tokens["WETH"].feed),
        )
        self.market = asyncio.run(MakerClip.discover(self.reader, "clip", config, self.head))
        asyncio.run(self.market.bootstrap(self.reader, self.head))

    @property
    def sales(self) -> dict[int, Sale]:
        return self.market._ledger.sales

    def follow(self) -> None:
        net = self.maker.net
        while self.head.number < net.chain.block_number():
            self.head = asyncio.run(self.reader.head(self.head.number + 1))
            query = {"blockHash": to_hex(self.head.hash), "address": to_hex(self.maker.address)}
            for log in parse.logs(net.rpc("eth_getLogs", query)):
                undo = self.market.fold(log.at(self.head.timestamp))
                if undo is not None:
                    self.undos.append(undo)

    def compare(self) -> None:
        net, address = self.maker.net, self.maker.address
        assert net.call(address, "count()") == len(self.sales)
        figures = self.market._figures
        assert figures is not None
        ask, numbers, now = net.chain.call_many, list(self.sales), self.head.timestamp
        words = ["uint256", "uint256", "uint256", "address", "uint256", "uint256"]
        held = ask([(address, "sales(uint256)", [each]) for each in numbers], words, "latest")
        asked = [(address, "status(uint256)", [each]) for each in numbers]
        states = ask(asked, ["bool", "uint256", "uint256", "uint256"], "latest")
        for number, told, state in zip(numbers, held, states, strict=True):
            sale = self.sales[number]
            assert sale == Sale(told[1], told[2], told[4], told[5])
            auction = figures.auction(sale)
            expected = (auction.needs_redo(now), auction.price_at(now), sale.lot, sale.tab)
            assert state == expected

    def pick(self, *, done: bool = False) -> int | None:
        """Return an auction, of those that have to be started anew, or of the others."""
        figures = self.market._figures
        assert figures is not None
        at = self.head.timestamp + BLOCK_SECONDS
        found = sorted(
            number
            for number, sale in self.sales.items()
            if figures.auction(sale).needs_redo(at) == done
        )
        return self.chance.choice(found or sorted(self.sales)) if self.sales else None

    def _all_done(self) -> bool:
        figures = self.market._figures
        assert figures is not None
        at = self.head.timestamp + BLOCK_SECONDS
        return all(figures.auction(sale).needs_redo(at) for sale in self.sales.values())

    def run(self) -> None:
        for _ in range(STEPS):
            name = self.chance.choice([*RULES, "take_part", "take_part"])
            if not self.sales or (name != "redo" and self._all_done()):
                name = "open"
            self.done[name] += RULES[name](self)
            self.follow()
            self.compare()
        assert not asyncio.run(self.market.audit(self.reader, self.head, 50, 1))
        if self.sales:
            number = min(self.sales)
            right = self.sales[number]
            self.sales[number] = right._replace(lot=right.lot + 1)
            (drift,) = asyncio.run(self.market.audit(self.reader, self.head, 50, 1))
            assert (drift.held, drift.actual) == (right.lot + 1, right.lot)
            self.sales[number] = right
        for undo in reversed(self.undos):
            undo()
        assert not self.sales


def open_and_bark(walk: Walk) -> bool:
    walk.urns += 1
    urn, ink = walk.urns.to_bytes(20, "big"), walk.chance.randrange(5, 60) * WAD
    art = ink * walk.price * walk.chance.randrange(66, 80) // (RAY * 100)
    walk.maker.open_urn(urn, ink, art)
    maker = walk.maker
    return maker.net.send(Cast.RIVAL, maker.address, BARK, [ILK, urn, Cast.RIVAL], check=False).ok


def _take(walk: Walk, share: int) -> bool:
    number, maker = walk.pick(), walk.maker
    if number is None:
        return False
    figures = walk.market._figures
    assert figures is not None
    sale = walk.sales[number]
    amount = sale.lot * share // 100
    due = take(figures.auction(sale), amount, walk.head.timestamp + BLOCK_SECONDS)
    money = maker.net.call(maker.address, "dai(address)", [TAKER])
    done = maker.net.send(
        TAKER, maker.address, TAKE, [number, amount, MAX_UINT256, TAKER, b""], check=False
    ).ok
    assert done == (due is not None)
    if due is not None:
        assert money - maker.net.call(maker.address, "dai(address)", [TAKER]) == due.owe
        walk.taken += 1
    return done


def redo(walk: Walk) -> bool:
    number, maker = walk.pick(done=True), walk.maker
    if number is None:
        return False
    if not walk.maker.auction(number).needs_redo(walk.head.timestamp + BLOCK_SECONDS):
        maker.net.mine(seconds=8_500)
    return maker.net.send(Cast.RIVAL, maker.address, REDO, [number, Cast.RIVAL], check=False).ok


def pass_time(walk: Walk) -> bool:
    walk.maker.net.mine(seconds=walk.chance.choice([12, 90, 700]))
    return True


def move_price(walk: Walk) -> bool:
    walk.price = walk.price * walk.chance.randrange(95, 106) // 100
    walk.maker.poke(walk.price)
    return True


RULES: dict[str, Callable[[Walk], bool]] = {
    "open": open_and_bark,
    "take_part": lambda walk: _take(walk, walk.chance.randrange(1, 90)),
    "take_all": lambda walk: _take(walk, 100),
    "redo": redo,
    "pass_time": pass_time,
    "move_price": move_price,
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
    taken = 0
    for number in SEEDS:
        try:
            walk = walked(maker, number)
        except AssertionError as error:
            raise AssertionError(f"seed {number}: {error}") from error
        done.update(walk.done)
        taken += walk.taken
    assert sum(done.values()) >= 200, done
    assert min(done[name] for name in RULES) >= 5, done
    assert taken >= 10


def test_a_rounding_the_other_way_is_found(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    right = dutch.rpow_near
    monkeypatch.setattr(dutch, "rpow_near", lambda *args: right(*args) - 1)
    with pytest.raises(AssertionError):
        walked(maker, SEEDS[0])
