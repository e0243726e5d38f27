"""Exposure, shapes and futures on a market small enough to work out by hand."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from keeper.errors import ConfigError
from keeper.ports import LegArrays
from keeper.protocols.compound_v2.ctoken import CToken, Terms
from keeper.protocols.compound_v2.market import CompoundV2
from keeper.protocols.compound_v2.vai import Minted, Rules, Vai
from keeper.stress import draws, shapes
from keeper.stress.cascade import Cascade, Standing, repriced
from keeper.stress.exposure import Exposure, Fallen, grids, volatile
from keeper.stress.losses import Losses
from keeper.stress.moves import dollars
from keeper.stress.pools import Sale
from keeper.types import (
    Backstop,
    CollateralLeg,
    DebtLeg,
    FlashKind,
    FlashSource,
    NextBlock,
    Position,
    Prices,
    Token,
)
from keeper.units import USD, WAD, ZERO_ADDRESS, Address, Bps, Wad, Wei

ETH, BTC, USD_COIN = (Address(bytes([k]) * 20) for k in (1, 2, 3))
TOKENS = {
    ETH: Token(ETH, "ETH", 18),
    BTC: Token(BTC, "BTC", 8),
    USD_COIN: Token(USD_COIN, "USDX", 6),
}
PRICES = Prices("market", 100, {ETH: 200_000, BTC: 5_000_000, USD_COIN: 100})
AT = NextBlock(1, 0, Wei(0))


class Market:
    """Three borrowers: ETH against dollars, BTC against dollars, ETH against BTC; threshold 80 %."""

    market = "market"

    def tokens(self):
        return TOKENS

    def all_legs(self):
        return lambda: LegArrays(
            [Address(who * 20) for who in (b"a", b"b", b"c")],
            np.array([0, 1, 2]),
            np.array([0, 1, 0]),
            np.array([1.0, 1.0, 30.0]),
            np.array([0, 1, 2]),
            np.array([2, 2, 1]),
            np.array([1_500.0, 30_000.0, 0.9]),
        )

    def factors(self, prices: Prices, at: NextBlock):
        values = np.array([prices.values[each] for each in (ETH, BTC, USD_COIN)], float)
        return values * 0.8, values


def exposure() -> Exposure:
    return Exposure.of(cast("Any", Market()), PRICES, AT)


def test_exposure_adds_up_to_collateral_and_debt() -> None:
    collateral, debt = exposure().at({})
    assert collateral == pytest.approx([1_600, 40_000, 48_000])
    assert debt == pytest.approx([1_500, 30_000, 45_000])


@pytest.mark.parametrize(
    ("multiples", "fallen"),
    [
        ({}, Fallen(0, 0.0)),
        ({ETH: 0.93}, Fallen(2, 46_500.0)),
        ({ETH: 0.93, BTC: 0.93}, Fallen(1, 1_500.0)),
        ({BTC: 1.1}, Fallen(1, 49_500.0)),
        ({USD_COIN: 1.5}, Fallen(2, 47_250.0)),
    ],
)
def test_who_falls_at_other_prices(multiples: Mapping[Address, float], fallen: Fallen) -> None:
    found = exposure().fallen(multiples)
    assert found.borrowers == fallen.borrowers
    assert found.debt_usd == pytest.approx(fallen.debt_usd)


def test_a_grid_is_every_pair_of_shocks() -> None:
    steps = (0.5, 0.9, 1.0)
    one = exposure()
    grid = grids([one, one], [ETH], [BTC], steps)
    for i, x in enumerate(steps):
        for k, y in enumerate(steps):
            alone = one.fallen({ETH: x, BTC: y})
            assert grid[i][k].borrowers == 2 * alone.borrowers
            assert grid[i][k].debt_usd == pytest.approx(2 * alone.debt_usd)
    with pytest.raises(ValueError, match="both sides"):
        one.grid([ETH], [ETH], steps)


def test_what_moves_is_what_is_not_a_dollar() -> None:
    assert volatile(dollars(cast("Any", Market()), PRICES)) == [ETH, BTC]


def test_a_position_is_priced_anew() -> None:
    position = Position(
        "market",
        "aave-v3",
        Address(b"a" * 20),
        (CollateralLeg(TOKENS[ETH], 10**18, 200_000, Bps(8_000), Bps(10_500)),),
        (DebtLeg(TOKENS[USD_COIN], 1_500 * 10**6, 150_000),),
        200_000,
        150_000,
        Wad(WAD * 16 // 15),
    )
    fallen = repriced(position, PRICES, replace(PRICES, values={**PRICES.values, ETH: 150_000}), {})
    assert (fallen.collateral_value, fallen.debt_value) == (150_000, 150_000)
    assert fallen.health == WAD * 8 // 10


def test_losses_are_borne_by_what_a_market_holds_in_the_same_token() -> None:
    position = Position(
        "market",
        "aave-v3",
        Address(b"a" * 20),
        (CollateralLeg(TOKENS[ETH], 10**18, 200_000, Bps(8_000), Bps(10_500)),),
        (DebtLeg(TOKENS[USD_COIN], 0, 240_000), DebtLeg(TOKENS[BTC], 0, 60_000)),
        200_000,
        300_000,
        Wad(WAD // 2),
    )
    prices = {"market": PRICES}
    held = Backstop("reserves", TOKENS[USD_COIN], 900 * 10**6)
    losses = Losses()
    losses.hollow(position, PRICES)
    assert losses.total_usd == 1_000 * USD
    assert losses.shortfall_usd({}, prices) == 1_000 * USD
    assert losses.shortfall_usd({"market": [held]}, prices) == 200 * USD
    assert losses.shortfall_usd({"market": [replace(held, kind="deficit")]}, prices) == 1_000 * USD
    losses.written_off(position, TOKENS[USD_COIN], 200_000, PRICES)
    assert losses.total_usd == 2_000 * USD
    assert losses.shortfall_usd({"market": [held]}, prices) == 1_100 * USD


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_every_shape_falls(name: str) -> None:
    shape = shapes.named(name, [ETH, BTC], [USD_COIN], TOKENS)
    assert min(min(step.values()) for step in shape.steps) < 0.95
    assert all(multiple > 0 for step in shape.steps for multiple in step.values())


def test_shocks_are_read() -> None:
    (step,) = shapes.shocked(["eth=-30%", "BTC=10%"], TOKENS).steps
    assert dict(step) == pytest.approx({ETH: 0.7, BTC: 1.1})


@pytest.mark.parametrize(
    ("shocks", "said"),
    [
        (["ETH"], "is no SYMBOL=PERCENT"),
        (["ETH=-3"], "is no SYMBOL=PERCENT"),
        (["ETH=nan%"], "is no SYMBOL=PERCENT"),
        (["ETH=-100%"], "leaves no price"),
        (["DOGE=-5%"], "no market lists an asset DOGE"),
        (["ETH=-5%", "eth=-6%"], "twice"),
    ],
)
def test_a_shock_that_cannot_be_is_one_line(shocks: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        shapes.shocked(shocks, TOKENS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no prices"),
        ("date,btc\n1,2\n3,4\n", "has no column eth; its columns|has no column eth"),
        ("date,eth\n1,2\n3,x\n", "line 3: x is no price"),
        ("date,eth\n1,2\n3\n", "line 3: nothing is no price"),
        ("date,eth\n1,2\n3,-4\n", "line 3: -4 is no price"),
        ("date,eth\n1,inf\n3,4\n", "line 2: inf is no price"),
        ("date,eth\n2024-01-01,2\n02.01.2024,4\n", "line 3: 02.01.2024 is no date"),
        ("place,eth\n0,2\n1,4\n", "line 2: 0 is no date"),
        ("date,eth\n,2\n,4\n", "line 2: nothing is no date"),
        ("date,eth\nnan,2\nnan,4\n", "line 2: nan is no date"),
        ("date,eth\n2024-01-02,2\n\n2024-01-01,4\n", "line 4: 2024-01-01 is not after"),
        ("date,eth\n2024-01-02,2\n2024-01-02,4\n", "line 3: 2024-01-02 is not after"),
        ("date,eth\n2024-01-02,2\n\n", "has no prices"),
    ],
)
def test_a_history_that_cannot_be_read_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        shapes.history(path, {"eth": [ETH]})
    with pytest.raises(ConfigError, match="cannot be read"):
        shapes.history(tmp_path / "none.csv", {"eth": [ETH]})


def test_a_history_is_relative_to_its_start(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("date,eth\n2024-01-01,200\n2024-01-02,150\n\n2024-01-03,100\n")
    shape = shapes.history(path, {"eth": [ETH, BTC]})
    assert shape.steps == ({ETH: 0.75, BTC: 0.75}, {ETH: 0.5, BTC: 0.5})
    assert shape.seconds == 86_400


@pytest.mark.parametrize(
    ("dates", "seconds"),
    [
        (("2024-01-01", "2024-01-02", "2024-01-03"), 86_400),
        (("20240101", "20240102", "20240103"), 86_400),
        (("2024-01-01 00:00", "2024-01-01 00:05", "2024-01-01 00:10"), 300),
        (("2024-01-01T00:00:00Z", "2024-01-01T02:00:00+01:00", "2024-01-01T02:00"), 3_600),
        (("1704067200", "1704067260.5", "1704067321"), 60.5),
        (("1704067200000", "1704067500000", "1704067800000"), 300),
        (("1704067200000000", "1704067500000000", "1704067800000000"), 300),
        # an hour, a weekend, an hour
        (("2024-01-05 21:00", "2024-01-05 22:00", "2024-01-08 00:00", "2024-01-08 01:00"), 3_600),
    ],
)
def test_a_history_says_how_far_its_rows_are_apart(
    tmp_path: Path, dates: tuple[str, ...], seconds: float
) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("date,eth\n" + "".join(f"{date},200\n" for date in dates))
    assert shapes.history(path, {"eth": [ETH]}).seconds == seconds


@pytest.mark.parametrize(
    ("rows", "known"), [(12, 20_000), (12, 150), (1, 4_000), (1, 20), (1 / 24, 400)]
)
def test_futures_of_a_history_go_as_far_as_they_are_asked(rows: float, known: int) -> None:
    """`rows` in an hour: five minutes, hours, days; a short history is not drawn whole."""
    moves = np.random.default_rng(3).standard_normal((known, 1))
    moves *= 0.01 / moves.std()
    drawn = draws.resampled(moves, 3_600 / rows, 48 * 3_600.0, 4_000, 7)
    assert np.log(drawn).std() == pytest.approx(0.01 * np.sqrt(48 * rows), rel=0.3)


def test_a_future_shorter_than_a_row_is_one_row() -> None:
    moves = np.array([[0.1], [-0.1]])
    drawn = draws.resampled(moves, 86_400.0, 3_600.0, 50, 7)
    assert set(np.round(np.log(drawn[:, 0]), 9)) == {0.1, -0.1}


def test_long_futures_are_drawn_some_at_a_time() -> None:
    moves = np.random.default_rng(3).standard_normal((4_000, 1)) * 0.001
    drawn = draws.resampled(moves, 1.0, 200_000.0, 12, 7)
    assert len(np.unique(drawn)) == 12


def test_futures_are_seeded_and_correlated() -> None:
    drawn = draws.correlated(20_000, 2, 0.8, 0.7, 86_400.0, 5)
    assert np.array_equal(drawn, draws.correlated(20_000, 2, 0.8, 0.7, 86_400.0, 5))
    moves = np.log(drawn)
    assert np.corrcoef(moves.T)[0, 1] == pytest.approx(0.7, abs=0.02)
    assert moves.std(axis=0) == pytest.approx(0.8 / np.sqrt(365.25), rel=0.03)
    assert drawn.mean(axis=0) == pytest.approx(1, abs=0.002)


def test_the_tail_of_futures_is_the_mean_of_the_worst() -> None:
    multiples = np.ones((100, 1))
    multiples[:5, 0] = 0.5
    found = draws.spread([exposure()], [[ETH]], multiples)
    assert found.draws == 100
    assert found.median_usd == 0
    assert found.tail_usd == pytest.approx(46_500)
    assert found.mean_usd == pytest.approx(46_500 / 20)


CETH, CUSD = (Token(Address(bytes([k]) * 20), name, 8) for k, name in ((11, "cETH"), (12, "cUSDX")))
VAI = Token(Address(bytes([13]) * 20), "VAI", 18)


def compound() -> tuple[CompoundV2, Prices]:
    """Return a market where one borrower holds ten ether against 15,000 dollars and 500 VAI."""
    deployment: Any = SimpleNamespace(
        comptroller=Address(b"c" * 20),
        oracle=Address(b"o" * 20),
        codes={},
        liquidator=ZERO_ADDRESS,
        vai=ZERO_ADDRESS,
    )
    made = CompoundV2("compound", deployment)
    ledger = made._ledger
    ledger.close_factor = WAD // 2
    who = Address(b"a" * 20)
    for number, (token, underlying) in enumerate(((CETH, TOKENS[ETH]), (CUSD, TOKENS[USD_COIN]))):
        size = 10**underlying.decimals
        ctoken = CToken(number, token, underlying, False, WAD, 0, 0)
        ctoken.cash, ctoken.supply, ctoken.reserves, ctoken.rate = 10**6 * size, 10**14, 0, 0
        ctoken.terms[0] = Terms(Wad(WAD * 8 // 10), Wad(WAD * 108 // 100))
        ledger.list_ctoken(ctoken)
        ledger.set_entered(who, ctoken, entered=True)
    ledger.set_balance(who, ledger.ctokens[0], 10 * 10**8)
    ledger.set_debt(who, ledger.ctokens[1], (15_000 * 10**6, WAD))
    ledger.vai = Vai(Address(b"v" * 20), VAI, Rules(WAD, WAD, 0, 0, False, 0), WAD)
    ledger.set_minter(who, Minted(500 * WAD, 0, WAD))
    unit = 10**36
    return made, Prices("compound", unit, {ETH: 2_000 * unit, USD_COIN: unit})


class Street:
    """Pools that take cETH as the ether it redeems for, and pay a sixth less for ether after a sale."""

    paid = 1_800

    def best(self, sold: Address, bought: Address, amount: int) -> Sale:
        assert (sold, bought) == (CETH.address, USD_COIN)
        return Sale(amount * self.paid * 10**6 // 10**8, ())

    def sell(self, sale: Sale) -> None:
        self.paid = 1_500

    def price(self, sold: Address, bought: Address, size: int) -> float:
        assert (sold, bought) == (ETH, USD_COIN)
        return self.paid * 10**6 / 10**18

    def arbitrage(self, values: object, size: object) -> int:
        return 0


class Free:
    """Loans and gas for nothing."""

    def lender(self, step: object, sale: object) -> FlashSource:
        return FlashSource(FlashKind.NONE, Address(b""), USD_COIN, 0, 0)

    def gas_usd_up(self, *_: object) -> int:
        return 0


def test_a_cascade_goes_through_claims_and_debts_without_a_price() -> None:
    """Collateral is held in cTokens, which no oracle prices, and VAI is a dollar without any."""
    market, prices = compound()
    protocol: Any = market
    found = Exposure.of(protocol, prices, AT)
    backing, owed = found.at({})
    assert (backing[0], owed[0]) == (pytest.approx(16_000), pytest.approx(15_500))
    assert found.fallen({ETH: 0.9}).debt_usd == pytest.approx(15_500)
    pools, costs = cast("Any", Street()), cast("Any", Free())
    cascade = Cascade([Standing(protocol, prices, found)], pools, TOKENS, AT, costs)
    outcome = cascade.run(shapes.shocked(["ETH=-10%"], TOKENS))
    first, *later = outcome.acts
    assert (first.collateral, first.repaid, first.received) == (CETH, 7_500 * 10**6, 450_000_000)
    assert {act.round for act in later} == {1}
    assert outcome.rounds[0].prices[ETH] == pytest.approx(1_500), "the sale's price is followed"
