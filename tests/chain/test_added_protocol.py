"""The recipe of keeper/README.md for a protocol of one's own, followed from its entry point to a receipt."""

import asyncio
import inspect
import re
import shutil
from pathlib import Path

import pytest
import vyper  # type: ignore[import-untyped]
from eth_abi.abi import encode

import keeper
from keeper.cli.demo.stage import staged
from keeper.config import load
from keeper.devnet import Cast, Devnet, Transaction
from keeper.devnet.operator import CHAIN_NAME, deploy_operator, write_settings
from keeper.doctor.permissions import missing
from keeper.errors import ConfigError
from keeper.plugins import PROTOCOLS, list_plugins
from keeper.ports import LendingProtocol, Source
from keeper.types import FlashKind, Plan, Reason
from keeper.units import WAD, to_hex
from tests.line import Play, assert_clean
from tests.uniswap import DirectRpc

pytestmark = pytest.mark.chain

PAWN = Path(__file__).parents[1] / "examples" / "pawn"
RECIPE = "## A lending protocol of your own"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the example as a package of its own is installed: a module and an entry point."""
    site = tmp_path / "site"
    told = site / "pawn-1.0.dist-info"
    told.mkdir(parents=True)
    shutil.copy(PAWN / "pawn.py", site)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: pawn\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(f"[{PROTOCOLS}]\npawn = pawn:Pawn\n")
    monkeypatch.syspath_prepend(str(site))


class Shop:
    """The deployed contract, with dollars to lend, and its customers."""

    def __init__(self, net: Devnet) -> None:
        code = vyper.compile_code((PAWN / "pawn.vy").read_text(), output_formats=["bytecode"])
        weth, dai = net.tokens["WETH"], net.tokens["DAI"]
        words = encode(["address"] * 3, [weth.address, dai.address, weth.feed])
        self.net = net
        self.address = net.deploy(bytes.fromhex(code["bytecode"][2:]) + words)
        net.give("DAI", self.address, 10**6 * WAD)
        net.give("WETH", Cast.LENDER, 1_000 * WAD)
        approval = [self.address, 2**256 - 1]
        net.send(Cast.LENDER, weth.address, "approve(address,uint256)", approval)

    def open(self, first: int, count: int, usd: int) -> list[bytes]:
        """Open loans a little below what their pledges of so many dollars allow."""
        net, price = self.net, self.net.price("WETH")
        who = [(0xBA17 << 32 | first + number).to_bytes(20, "big") for number in range(count)]
        for number, each in enumerate(who):
            owed = usd * WAD * 80 // 100 * (990 - 2 * number) // 1_000
            args = [each, usd * WAD * 10**8 // price, owed]
            net.send(Cast.LENDER, self.address, "open(address,uint256,uint256)", args)
        return who

    def owed(self, who: bytes) -> int:
        return int(self.net.call(self.address, "loans(address)", [who], ["uint256"] * 2)[1])


def settings(net: Devnet, shop: bytes, home: Path) -> tuple[Path, bytes, bytes]:
    """Write settings that name the shop; return them, the contract and its owner."""
    operator = deploy_operator(net)
    table = f"""
[chains.devnet.markets.shop]
protocol = "pawn"
shop = "{to_hex(shop)}"
"""
    path = write_settings(net, operator, home, extra=table)
    return path, operator.contract, operator.owner


@pytest.mark.usefixtures("package")
async def test_what_the_recipe_says_ends_in_a_liquidation(net: Devnet, tmp_path: Path) -> None:
    assert ("pawn", "pawn:Pawn") in {(each.name, each.target) for each in list_plugins()}
    shop = Shop(net)
    fallen, tiny = shop.open(0, 3, 20_000), shop.open(50, 1, 30)
    aave = net.borrowers(2, health=1.01, size_usd=20_000, debt="DAI", seed=3)
    path, contract, owner = settings(net, shop.address, tmp_path)
    loaded = load([path]).settings
    chain = loaded.chains[CHAIN_NAME]
    assert chain.contract is not None
    grants = await missing(DirectRpc(net), chain, chain.contract, ())
    assert [each.what for each in grants] == ["allow liquidations on market shop"]
    await asyncio.to_thread(
        net.chain.send_all, [Transaction(owner, contract, each.data) for each in grants]
    )
    async with staged(net, loaded, live=True) as stage:
        play = Play(stage)
        late = await stage.step(lambda: shop.open(90, 1, 20_000))
        await stage.step(lambda: net.set_price("WETH", net.price("WETH") * 97 // 100))
        plans = [plan for report in stage.reports for plan in report.sent]
        await stage.mine(2)
        play.assert_taken([*fallen, *late, *aave])
        assert play.reasons(tiny) == {Reason.UNPROFITABLE}
        assert_clean(play.tally)
        assert await play.audit() == []
        assert_shared(plans)
    assert [shop.owed(who) for who in (*fallen, *late)] == [0] * 4


def assert_shared(plans: list[Plan]) -> None:
    """Assert that a transaction takes from the shop and from Aave, on borrowed money."""
    quotes = [quote for plan in plans for quote in plan.quotes]
    assert {quote.flash.kind for quote in quotes} == {FlashKind.AAVE}
    assert any(
        {quote.opportunity.position.home for quote in plan.quotes} == {"shop", "aave"}
        for plan in plans
    )


async def refusal(net: Devnet, shop: bytes, home: Path) -> str:
    """Return the one line that settings for a shop are refused with."""
    path, *_ = settings(net, shop, home)
    chain = load([path]).settings.chains[CHAIN_NAME]
    assert chain.contract is not None
    with pytest.raises(ConfigError) as told:
        await missing(DirectRpc(net), chain, chain.contract, ())
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.usefixtures("package")
async def test_another_address_is_one_line(net: Devnet, tmp_path: Path) -> None:
    assert "is no pawn shop" in await refusal(net, net.market.pool, tmp_path)


async def test_without_its_package_the_name_is_one_line(net: Devnet, tmp_path: Path) -> None:
    told = await refusal(net, net.market.pool, tmp_path)
    assert "no protocol is named 'pawn'" in told
    assert "known here: aave-v3, " in told


def test_the_recipe_names_every_part_of_the_seam() -> None:
    text = (Path(keeper.__file__).parent / "README.md").read_text(encoding="utf-8")
    recipe = text.split(RECIPE)[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", recipe))
    seam = {name for name, _ in inspect.getmembers(LendingProtocol) if name[0] != "_"}
    seam |= {name for name, _ in inspect.getmembers(Source) if name[0] != "_"}
    assert seam - named == set()
