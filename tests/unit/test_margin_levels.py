"""When a change of a position's level is told, and what the message says; quiet hours and days."""

import math
from dataclasses import replace
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from keeper.book.columns import Columns
from keeper.book.market import kept
from keeper.margin.figures import Crossing
from keeper.margin.levels import Habits, Kind, Ladder, Level, Standing, step
from keeper.margin.message import Situation, Summary, Taken, compose, digest
from keeper.margin.outlook import KNOWN, Chances, Outlook
from keeper.margin.roster import Entry, Roster
from keeper.margin.watch import Watch
from keeper.margin.wording import price_words
from keeper.notify.daily import Daily
from keeper.notify.note import Severity
from keeper.notify.quiet import Quiet
from keeper.types import CollateralLeg, DebtLeg, Position, Prices, Token
from keeper.units import WAD, Address, Bps, Hash, Wad

WETH = Token(Address(b"\x01" * 20), "WETH", 18)
USDC = Token(Address(b"\x02" * 20), "USDC", 6)
WHO = Address(b"\x07" * 20)
LADDER = Ladder(Wad(125 * 10**16), Wad(11 * 10**17), Wad(103 * 10**16))
HABITS = Habits(Bps(50), cooldown=600.0, escalate=1800.0)
WATCH = Watch("fund", ("desk",), LADDER, HABITS, target=Wad(13 * 10**17))
PRICES = Prices("aave", 10**8, {WETH.address: 2_500_00000000, USDC.address: 10**8})


def position(price: int = 2_500_00000000, owed: int = 20_000) -> Position:
    """Return ten ether at a threshold of 83 % against dollars."""
    value, debt = 10 * price, owed * 10**8
    return Position(
        "aave",
        "aave-v3",
        WHO,
        (CollateralLeg(WETH, 10 * 10**18, value, Bps(8_300), Bps(10_500)),),
        (DebtLeg(USDC, owed * 10**6, debt),) if owed else (),
        value,
        debt,
        Wad(value * 8_300 * WAD // (debt * 10_000)) if owed else Wad(2**256 - 1),
    )


def walk(healths: list[tuple[float, float]], habits: Habits = HABITS) -> list[tuple[str, str]]:
    """Return what is told of (seconds, health) one after another."""
    standing, told = Standing(), []
    for now, health in healths:
        standing, kind = step(standing, round(health * WAD), now, LADDER, habits)
        if kind is not None:
            told.append((str(kind), standing.level.word))
    return told


def test_each_level_is_told_once_on_the_way_down() -> None:
    slide = [(float(n), 1.3 - n * 0.002) for n in range(170)]
    assert walk(slide) == [
        ("worse", "warning"),
        ("worse", "call"),
        ("worse", "critical"),
        ("worse", "liquidatable"),
    ]


def test_a_crash_over_several_levels_is_one_message() -> None:
    assert walk([(0.0, 1.5), (12.0, 0.98)]) == [("worse", "liquidatable")]


def test_a_price_that_swings_around_a_level_says_nothing_new() -> None:
    swing = [(12.0 * n, 1.101 if n % 2 else 1.099) for n in range(400)]
    assert walk(swing, Habits(Bps(50), cooldown=0.0)) == [("worse", "call")]
    wider = [(12.0 * n, 1.12 if n % 2 else 1.099) for n in range(400)]
    assert walk(wider, Habits(Bps(50), cooldown=600.0)) == [("worse", "call")]


def test_better_is_told_once_it_held() -> None:
    told = walk([(0.0, 1.09), (10.0, 1.2), (300.0, 1.2), (609.0, 1.2), (610.0, 1.2), (900.0, 1.2)])
    assert told == [("worse", "call"), ("better", "warning")]
    assert walk([(0.0, 1.09), (10.0, 1.4), (700.0, 1.4)])[-1] == ("better", "safe")


def test_worse_again_before_better_was_told_is_no_news_unless_it_is_worse_than_told() -> None:
    told = walk([(0.0, 1.09), (10.0, 1.2), (20.0, 1.09), (30.0, 1.2), (500.0, 1.02)])
    assert told == [("worse", "call"), ("worse", "critical")]


def test_what_nobody_acknowledged_is_told_once_more() -> None:
    told = walk([(0.0, 1.09), (1799.0, 1.09), (1800.0, 1.09), (9000.0, 1.09), (9100.0, 1.02)])
    assert [kind for kind, _ in told] == ["worse", "reminder", "worse"]
    assert walk([(0.0, 1.2), (9000.0, 1.2)]) == [("worse", "warning")]
    seen = Standing(Level.CALL, 1, 0.0, acknowledged=True)
    assert step(seen, round(1.09 * WAD), 9000.0, LADDER, HABITS) == (seen, None)
    worse, kind = step(seen, round(1.02 * WAD), 9000.0, LADDER, HABITS)
    assert (kind, worse.acknowledged) == (Kind.WORSE, False)


def test_levels_begin_exactly_where_they_are_set() -> None:
    for level in (Level.WARNING, Level.CALL, Level.CRITICAL):
        assert LADDER.level(LADDER.begin(level)) is level
        assert LADDER.level(LADDER.begin(level) + 1) is Level(level - 1)
    assert LADDER.level(WAD) is Level.CRITICAL
    assert LADDER.level(WAD - 1) is Level.LIQUIDATABLE


def situation(of: Position, prices: Prices = PRICES) -> Situation:
    return Situation(
        "ethereum", 100, 5.0, WATCH, of, prices, LADDER, {3_600.0: 0.004, 86_400.0: 0.12}
    )


def test_a_message_says_what_to_do() -> None:
    of = position()
    note = compose(situation(of), Standing(), Standing(Level.CRITICAL, 1, 5.0), Kind.WORSE)
    assert note.title == "critical: 0x0707…0707 in aave on ethereum, health 1.0375"
    assert note.severity is Severity.CRITICAL
    assert note.text.splitlines()[1:] == [
        "Owes 20,000.00 USDC (20,000 USD); holds 10.0000 WETH (25,000 USD).",
        "Liquidated when WETH ≤ 2,409.63 (-3.6 %), nothing else moving.",
        "Liquidated when USDC ≥ 1.0375 (+3.8 %), nothing else moving.",
        "Chance of a liquidation within 1 h 0.4 %, 1 d 12 %.",
        "Back at health 1.3000: repay 4,038.47 USDC, or add 2.53013 WETH.",
        "A liquidation of all of it would cost up to 1,000 USD.",
    ]
    assert note.data["liquidated_when"][0]["price"] == str(20_000 * 10**8 * 10_000 // 83_000)
    again = compose(situation(of), Standing(), Standing(Level.CRITICAL, 1, 9.0), Kind.WORSE)
    assert again.key == note.key
    later = compose(situation(of), Standing(), Standing(Level.CRITICAL, 2, 9.0), Kind.WORSE)
    assert (later.key != note.key, later.subject) == (True, note.subject)


@pytest.mark.parametrize(
    ("price", "unit", "falls_to", "rises_to"),
    [
        (241_352_499_999, 10**8, "2,413.52", "2,413.53"),
        (1_000_000_001, 10**8, "10.00", "10.01"),
        (123_456_789, 10**8, "1.2345", "1.2346"),
        (1_234_567, 10**8, "0.01234", "0.01235"),
        (1_230, 10**8, "0.00001230", "0.00001230"),
        (1, 10**8, "0.00000001", "0.00000001"),
        (0, 10**8, "0.00000000", "0.00000000"),
        (123_456_789, 10**18, "0.0000000001234", "0.0000000001235"),
        (3, 1, "3.0000", "3.0000"),
    ],
)
def test_a_price_is_told_to_four_digits_however_cheap_the_token(
    price: int, unit: int, falls_to: str, rises_to: str
) -> None:
    assert price_words(Crossing(WETH, price, is_fall=True), unit) == f"WETH ≤ {falls_to}"
    assert price_words(Crossing(WETH, price, is_fall=False), unit) == f"WETH ≥ {rises_to}"


def test_a_liquidation_is_told_by_its_transaction() -> None:
    taken = Taken(
        *(99, Hash(b"\xaa" * 32), 3, WHO, USDC, WETH, 10**10, 4 * 10**18, Address(b"\x09" * 20)),
        ordinal=1,
    )
    before = Standing(Level.LIQUIDATABLE, 4, 1.0)
    note = compose(situation(position(owed=0)), before, Standing(), Kind.LIQUIDATED, taken)
    assert note.key.endswith("aa/1")
    assert note.title == "liquidated: 0x0707…0707 in aave on ethereum"
    assert "10,000.00 USDC repaid by 0x0909…0909 for 4.00000 WETH" in note.text
    assert note.text.endswith("It owes nothing any more.")
    assert note.data["level"] == "liquidated"


def test_good_news_never_wakes_anybody() -> None:
    before, after = Standing(Level.CRITICAL, 1, 0.0), Standing(Level.SAFE, 2, 5.0)
    note = compose(situation(position(4_000_00000000)), before, after, Kind.BETTER)
    assert note.severity is Severity.WARNING
    assert note.title.startswith("better, critical → safe: ")


def test_a_digest_names_the_worst() -> None:
    entry = {"watch": "fund", "level": "call", "borrower": "0x07", "market": "aave", "health": 1.05}
    summary = Summary("ethereum", "fund", "2026-01-31", 30, 25, 250.0)
    note = digest(summary, 5.0, [entry | {"debt_usd": 10.0}] * 25)
    assert note.title == "2026-01-31, watch fund on ethereum: 25 of 30 positions not safe"
    assert note.text.splitlines()[0] == "30 positions owe 250 USD."
    assert note.text.endswith("and 5 more")
    assert len(note.data["positions"]) == 25
    # however many there are, it stays a message that channels take
    crowd = digest(replace(summary, not_safe=5_000), 5.0, [entry | {"debt_usd": None}] * 5_000)
    assert len(crowd.record()) < 100_000
    assert (len(crowd.data["positions"]), crowd.data["not_safe"]) == (500, 5_000)


def test_quiet_hours_go_over_midnight_in_their_zone() -> None:
    quiet = Quiet(time(22), time(7), ZoneInfo("Europe/Berlin"))

    def at(day: int, hour: int, minute: int = 0) -> float:
        return datetime(2026, 1, day, hour, minute, tzinfo=UTC).timestamp()

    assert quiet.end_after(at(10, 20, 59)) == at(10, 20, 59)
    assert quiet.end_after(at(10, 21)) == at(11, 6)
    assert quiet.end_after(at(11, 3)) == at(11, 6)
    assert quiet.end_after(at(11, 6)) == at(11, 6)
    noon = Quiet(time(12), time(13), ZoneInfo("UTC"))
    assert noon.end_after(at(10, 12, 30)) == at(10, 13)
    assert noon.end_after(at(10, 13)) == at(10, 13)


def test_a_day_comes_once() -> None:
    daily = Daily(time(8))
    morning = datetime(2026, 1, 31, 7, 59, tzinfo=UTC).timestamp()
    assert daily.due(morning) is None
    assert daily.due(morning + 60) == date(2026, 1, 31)
    daily.done(date(2026, 1, 31))
    assert daily.due(morning + 3_600) is None
    assert daily.due(morning + 86_460) == date(2026, 2, 1)
    assert Daily(None).due(morning) is None


def moving(deviation: float, samples: int = 60) -> Outlook:
    """Return an outlook on ether that moves by so much every five minutes, and steady dollars."""
    print("seed 5")
    draw = np.random.default_rng(5)
    outlook = Outlook(300.0)
    prices = 2_500.0 * np.exp(np.cumsum(draw.normal(0.0, deviation, samples)))
    rows = [{WETH.address: float(p), USDC.address: 1.0} for p in prices]
    outlook.restore([(300.0 * n, row) for n, row in enumerate(rows)])
    return outlook


def test_a_call_comes_earlier_in_a_wild_market() -> None:
    chances = Chances(0.05, 0.2, 0.5, 86_400.0)
    calm, wild = (moving(each).ladder(position(), chances) for each in (0.0005, 0.005))
    assert calm is not None
    assert wild is not None
    assert WAD < calm.critical < calm.call < calm.warning < wild.warning
    assert calm.call < wild.call
    assert LADDER.raised(calm).warning == max(LADDER.warning, calm.warning)


def test_the_ladder_begins_where_the_chance_is_as_given() -> None:
    outlook, chances = moving(0.003), Chances(0.05, 0.2, 0.5, 86_400.0)
    ladder = outlook.ladder(position(), chances)
    assert ladder is not None
    for health, chance in ((ladder.warning, 0.05), (ladder.call, 0.2), (ladder.critical, 0.5)):
        found = outlook.chances(replace(position(), health=health), [86_400.0])[86_400.0]
        assert found == pytest.approx(chance, abs=0.006)
        assert found <= chance
        drawn = outlook.drawn_chance(replace(position(), health=health), 86_400.0, seed=1)
        assert drawn == pytest.approx(chance, abs=0.12)


def test_without_prices_nothing_is_said_of_chances() -> None:
    few = moving(0.003, samples=KNOWN)
    assert few.chances(position(), [3_600.0]) == {}
    assert few.ladder(position(), Chances(0.1, 0.2, 0.3, 3_600.0)) is None
    known = moving(0.003)
    unknown = Token(Address(b"\x05" * 20), "NEW", 18)
    leg = replace(position().collateral[0], token=unknown)
    assert known.chances(replace(position(), collateral=(leg,)), [3_600.0]) == {}
    assert known.chances(position(owed=0), [3_600.0]) == {}


def test_what_a_restart_missed_counts_as_one_move_of_several_steps() -> None:
    steady = moving(0.003)
    gap = Outlook(300.0)
    gap.restore(
        [
            (t + (9_000.0 if t > 6_000 else 0.0), r)
            for t, r in zip(steady.times, steady.rows, strict=True)
        ]
    )
    one, other = (each.chances(position(), [86_400.0])[86_400.0] for each in (steady, gap))
    assert other <= one


def test_a_price_missing_from_some_samples_blinds_nobody() -> None:
    whole, some = moving(0.003), Outlook(300.0)
    rows = list(zip(whole.times, whole.rows, strict=True))
    for at, missing in ((40, WETH), (41, WETH), (59, USDC)):
        kept = {asset: price for asset, price in rows[at][1].items() if asset != missing.address}
        rows[at] = rows[at][0], kept
    some.restore(rows)
    all_of, found = (each.chances(position(), [86_400.0])[86_400.0] for each in (whole, some))
    assert found == pytest.approx(all_of, abs=0.05)


def test_an_asset_that_is_new_is_known_by_its_own_moves() -> None:
    whole = moving(0.003, samples=200)
    times, rows = whole.times, whole.rows

    def since(first: int) -> Outlook:
        made = Outlook(300.0)
        late = [dict(row) if at >= first else {USDC.address: 1.0} for at, row in enumerate(rows)]
        made.restore(list(zip(times, late, strict=True)))
        return made

    assert since(200 - KNOWN).chances(position(), [86_400.0]) == {}
    deviations = [each.deviation(position(), 86_400.0) for each in (whole, since(100))]
    assert deviations[1] == pytest.approx(deviations[0], rel=0.15)


def roster(*borrowers: bytes) -> Roster:
    return Roster().filled(
        Entry(WATCH, Address(each), "aave", WATCH.ladder, Standing()) for each in borrowers
    )


def test_the_screen_finds_who_is_to_be_looked_at() -> None:
    people = [bytes([n]) * 20 for n in range(1, 6)]
    held = roster(*people)
    health = np.array([1.3, 1.24, math.nan, 0.9, 1.25000001])
    assert held.see(health, np.ones(5), np.ones(5)) == []
    assert [e.borrower for e in held.to_look_at(0.0)] == [people[n] for n in (3, 1, 4, 2)]
    entry = held.entries[1]
    held.set(entry, Standing(Level.WARNING, 1, 0.0))
    assert entry not in held.to_look_at(0.0)
    held.see(np.full(5, 1.3), np.ones(5), np.ones(5))
    assert held.to_look_at(0.0) == [entry]


def test_a_debt_that_fell_is_asked_about_until_it_is_answered() -> None:
    held = roster(b"\x01" * 20, b"\x02" * 20)
    both = np.full(2, 1.5)
    assert held.see(both, both, np.array([100.0, 50.0])) == []
    assert [e.borrower[0] for e in held.see(both, both, np.array([100.0, 40.0]))] == [2]
    assert [e.borrower[0] for e in held.see(both, both, np.array([100.0, 40.0]))] == [2]
    held.answered()
    assert held.see(both, both, np.array([100.0, 40.0])) == []
    assert held.see(both, both, np.array([120.0, 40.0])) == []


def test_filling_anew_keeps_standings() -> None:
    held = roster(b"\x01" * 20, b"\x02" * 20)
    held.set(held.entries[0], Standing(Level.CALL, 1, 0.0))
    held.see(np.array([1.05, 2.0]), np.array([7.0, 1.0]), np.ones(2), 41)
    before, held = held, held.filled(held.entries[:1])
    assert (len(before), len(held)) == (2, 1)
    assert held.entries[0].standing.level is Level.CALL
    # what was known is known while it is looked at anew
    shown = held.shown(whole=False)
    assert [shown.known(place) for place in shown.places] == [(1.05, 7.0, 41)]
    assert held.tally()["fund", Level.CALL] == (1, 7.0)
    held.see(np.array([1.05]), np.array([7.0]), np.array([1.0]))
    assert held.tally()["fund", Level.CALL] == (1, 7.0)


def test_the_fall_of_a_small_debt_is_seen_beside_a_large_one() -> None:
    """A thousand dollars of six decimals fall beside a million of eighteen."""
    columns = Columns()
    who = Address(b"\x01" * 20)
    columns.replace(who, [(0, 10**21)], [(0, 10**24), (1, 10**9)])
    factors = np.array([2_500.0 / 1e18]), np.array([1e8 / 1e18, 1e8 / 1e6])
    weights = kept(np.zeros(0), factors[1])
    held = roster(who)
    assert held.see(*columns.standing([who], *factors, factors[1], weights)) == []
    columns.replace(who, [(0, 10**21)], [(0, 10**24), (1, 10**9 - 10**6)])
    # prices move, weights do not
    risen = factors[0], 2.0 * factors[1]
    weights = kept(weights, risen[1])
    (entry,) = held.see(*columns.standing([who], *risen, risen[1], weights))
    assert entry.account == who


def test_an_asset_without_a_price_gets_its_weight_once_it_has_one() -> None:
    first = kept(np.zeros(0), np.array([1.0, math.nan]))
    assert first.tolist() == [1.0, 0.0]
    assert kept(first, np.array([3.0, 2.0, 5.0])).tolist() == [1.0, 2.0, 5.0]
    assert kept(np.array([1.0, 2.0]), np.array([7.0])).tolist() == [1.0]


def test_a_fall_is_seen_beside_a_debt_of_unknown_worth() -> None:
    """As one at a stable rate is to the screen: it has no health there, and other debts fall."""
    columns, who = Columns(), Address(b"\x01" * 20)
    factors, weights = (np.array([1.0]), np.array([1.0])), np.array([1.0])
    held = roster(who)
    for owed, fell in ((900, 0), (400, 1)):
        columns.replace(who, [(0, 10**3)], [(0, owed), (128, 1)])
        health, debt, scaled = columns.standing([who], *factors, factors[1], weights)
        assert math.isnan(health[0])
        assert math.isnan(debt[0])
        assert len(held.see(health, debt, scaled)) == fell


def test_who_owes_little_is_not_among_those_who_owe_enough() -> None:
    """A market may have more classes of collateral than of debt."""
    columns = Columns()
    rich, poor, strange = (Address(bytes([n]) * 20) for n in (1, 2, 3))
    columns.replace(rich, [(3, 10)], [(0, 2_000)])
    columns.replace(poor, [(0, 1), (3, 10)], [(0, 5)])
    columns.replace(strange, [(7, 10)], [(0, 5)])
    collateral, worth = np.ones(5), np.array([1.0])
    assert columns.owing(0, 1_000.0, collateral, worth) == [rich, strange]
