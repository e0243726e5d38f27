"""A cascade played in memory, against the same fall executed on the chain."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from keeper.app import Asked, stress
from keeper.cli import main
from keeper.config import load
from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.operator import deploy_operator, write_settings
from keeper.units import Address

_MAX = 2**256 - 1
ONE_POOL = ["chains.devnet.routing.max_hops=1", "chains.devnet.venues.uniswap.fees=[500]"]


@dataclass
class Played:
    """What the fall did on the chain: debt repaid in USDC units, calls, rounds, the last price."""

    repaid: int = 0
    calls: int = 0
    rounds: int = 0
    price: int = 0


class Street:
    """Liquidators who take all they may, and sell it at once into one pool."""

    def __init__(self, net: Devnet) -> None:
        self.net = net
        self.weth = net.tokens["WETH"].address
        self.usdc = net.tokens["USDC"].address
        both = {self.weth, self.usdc}
        self.pool = next(
            p for p in net.uniswap.pools if p.fee == 500 and {p.token0, p.token1} == both
        )

    def play(self, borrowers: list[bytes], price: int) -> Played:
        played = Played(price=price)
        self.net.set_price("WETH", price)
        while True:
            taken = self.round(borrowers, played)
            played.rounds += bool(taken)
            if not taken:
                return played
            played.price = self.spot()
            self.net.set_price("WETH", played.price, move_pools=False)

    def round(self, borrowers: list[bytes], played: Played) -> int:
        healths = {who: self.net.account_data(who)[5] for who in borrowers}
        calls = played.calls
        for who in sorted(borrowers, key=healths.__getitem__):
            while self.net.account_data(who)[5] < 10**18 and (paid := self.take(who)):
                played.repaid += paid
                played.calls += 1
        return played.calls - calls

    def take(self, who: bytes) -> int:
        """Liquidate the largest of a few sizes that pays, and return what it repaid, 0 for none."""
        most, share = _MAX, 1
        while share <= 16:
            before = self.net.snapshot()
            paid, brought = self.attempt(who, most // share)
            if brought > paid + paid * 5 // 10_000 and paid:
                return paid
            self.net.revert(before)
            most, share = (paid if share == 1 else most), 2 * share
        return 0

    def attempt(self, who: bytes, amount: int) -> tuple[int, int]:
        weth = self.net.balance(self.weth, Cast.RIVAL)
        usdc = self.net.balance(self.usdc, Cast.RIVAL)
        self.net.liquidate_as_rival(who, "WETH", "USDC", amount)
        paid = usdc - self.net.balance(self.usdc, Cast.RIVAL)
        before = self.net.balance(self.usdc, Cast.TRADER)
        self.net.trade(self.pool, self.weth, self.net.balance(self.weth, Cast.RIVAL) - weth)
        return paid, self.net.balance(self.usdc, Cast.TRADER) - before

    def spot(self) -> int:
        """Return the pool's price of WETH in USDC, 8 decimals."""
        root = int(self.net.call(self.pool.address, "slot0()", [], ["uint160"]))
        raw = root * root * 10**20 >> 192
        if self.pool.token0 == self.weth:
            return raw
        return 10**40 // raw


async def test_a_cascade_is_what_the_same_fall_does_on_the_chain(
    net: Devnet, tmp_path: Path
) -> None:
    who = net.borrowers(20, health=(1.02, 1.4), size_usd=(400_000, 1_200_000), seed=61)
    path = write_settings(net, deploy_operator(net), tmp_path, live=False)
    asked = Asked(shocks=["WETH=-14%"], draws=0)
    loaded = load([path], ONE_POOL)
    found = await stress(loaded.settings, "devnet", asked)
    played = Street(net).play(who, net.price("WETH") * 86 // 100)
    outcome = found.cascade
    rounds = [each for each in outcome.rounds if each.acts]
    assert played.rounds >= 3, "it is a cascade"
    assert (len(rounds), len(outcome.acts)) == (played.rounds, played.calls)
    assert outcome.repaid_usd == pytest.approx(played.repaid * 100, rel=1e-5)
    last = outcome.rounds[-1].prices[Address(net.tokens["WETH"].address)]
    assert last * 10**8 == pytest.approx(played.price, rel=1e-5)
    assert outcome.profit_usd > 0
    deficit = int(
        net.call(net.market.pool, "getReserveDeficit(address)", [net.tokens["USDC"].address])
    )
    assert outcome.bad_debt_usd == pytest.approx(deficit * 100, rel=1e-3)
    assert outcome.shortfall_usd == outcome.bad_debt_usd, "Aave keeps no reserve for it"


def test_the_command_draws_and_tells_the_same_twice(
    net: Devnet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net.borrowers(6, health=(1.02, 1.3), size_usd=(50_000, 90_000), seed=62)
    prices = tmp_path / "prices.csv"
    prices.write_text(
        "date,eth\n"
        + "".join(
            f"2020-03-12T{hour:02}:00Z,{price}\n"
            for hour, price in enumerate((200, 190, 150, 120, 130))
        )
    )
    path = write_settings(net, deploy_operator(net), tmp_path, live=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*more: str) -> str:
        monkeypatch.setattr("sys.argv", ["keeper", "stress", "-c", str(path), *more])
        with pytest.raises(SystemExit) as ended:
            main()
        out = capsys.readouterr()
        assert not ended.value.code, out.err
        return out.out

    asked = ("--history", str(prices), "--column", "eth=WETH,wstETH", "--json")
    picture = tmp_path / "stress.png"
    told = json.loads(run(*asked, "--grid", "WETH", "WBTC", "--plot", str(picture)))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert told["futures"]["draws"] == 1_000
    assert told["cascade"]["liquidations"] >= 6
    assert len(told["grid"]) == len(told["grid"][0]) == 41
    curve = [point["debt"] for point in told["curves"]["WETH"]]
    assert curve[0] == 0
    assert curve == sorted(curve), "the further it falls, the more is liquidatable"
    diagonal = [told["grid"][k][40]["debt"] for k in range(41)]
    at = dict(zip(told["grid_multiples"], diagonal, strict=True))
    for multiple, debt in zip(told["multiples"], curve, strict=True):
        if multiple in at:
            assert at[multiple] == pytest.approx(debt, abs=0.01)
    shown = run(*asked[:-1])
    assert "liquidatable debt in USD" in shown
    assert f"{told['cascade']['liquidations']} liquidations repay " in shown
    assert f"{told['futures']['tail_usd']:,.0f} in the worst 5 %" in shown
