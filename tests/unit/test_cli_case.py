"""`keeper case` on a recorded liquidation, on one of our own, and on files that are none."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from keeper.cli import main
from keeper.cli.case_file import read_case
from keeper.cli.study import ANY, ONE, TWO, study
from keeper.errors import ConfigError
from keeper.units import WAD

RECORDED = (
    Path(__file__).parents[3] / "shared" / "data" / "liquidations" / "compound_2020_11_26_case.json"
)

# 1,000 XYZ and 500 USDC back 900 XYZ and 100 USDC at factors of 0.8: liquidity is 300 − 100 · price.
OWN: dict[str, Any] = {
    "protocol": "a fork",
    "repay_token": "XYZ",
    "seize_token": "cXYZ",
    "repay_amount_wei": "400000000000000000000",
    "seize_tokens_raw": "2160000000000",
    "close_factor": "0.5",
    "liquidation_incentive": "1.08",
    "collateral_factor_all": "0.8",
    "oracle_price_in_tx": "3.1",
    "state_n_minus_1": [
        {"xyz_price": "2", "liquidity_usd": "100"},
        {"xyz_price": "3.1", "shortfall_usd": "10"},
    ],
    "paper_table_values": {
        "xyz_supplied": "1000",
        "xyz_borrowed": "900",
        "usdc_supplied": "500",
        "usdc_borrowed": "100",
    },
}


def written(folder: Path, **changes: object) -> Path:
    path = folder / "case.json"
    path.write_text(json.dumps({**OWN, **changes}), encoding="utf-8")
    return path


def test_two_steps_are_those_of_the_closed_form(tmp_path: Path) -> None:
    case = read_case(written(tmp_path))
    assert [case.shortfall, case.critical] == [Fraction(10), Fraction(3)]
    assert case.supplied == {"usdc": 500, "xyz": 1000}
    found = study(case)
    (only,) = found.ways[ONE]
    assert only.repay == 450 * WAD
    first, second = found.ways[TWO]
    # repay1 = shortfall / (1 − LT (1 + LS)), repay2 = CF (D − repay1)
    closed = Fraction(10) / (1 - Fraction(8, 10) * Fraction(108, 100)) / Fraction(31, 10)
    assert 0 <= closed * WAD - first.repay < WAD // 10**9
    assert second.repay == (900 * WAD - first.repay) // 2
    assert found.gain * 100 == pytest.approx(8 * 3.1 * first.repay / 2, rel=1e-12)
    # the other debt has a close factor of its own
    assert sum(move.value for move in found.ways[ANY]) >= found.gain + only.value


def test_a_recorded_liquidation_is_reproduced_to_the_wei(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not RECORDED.exists():
        pytest.skip("shared data absent: the recorded liquidation is not here")
    monkeypatch.setattr("sys.argv", ["keeper", "case", str(RECORDED), "--json"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reproduced"]
    assert found["seized"] == "239682512793648786"
    two = [int(step["repay"]) for step in found["strategies"][TWO]["steps"]]
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    shortfall = Fraction(recorded["state_n_minus_1"][2]["shortfall_usd"])
    closed = shortfall / (1 - Fraction(3, 4) * Fraction(108, 100)) / Fraction("1.095299")
    assert 0 <= closed * WAD - two[0] < WAD // 1_000
    assert two[1] == (93_220_000 * WAD - two[0]) // 2
    gain = Fraction(found["gain"])
    assert abs(gain - Fraction(8, 100) * Fraction(two[0], 2 * WAD)) < Fraction(1, 10**6)
    case = read_case(RECORDED)
    assert float(case.critical) == pytest.approx(float(recorded["critical_dai_price"]), rel=1e-15)


@pytest.mark.parametrize("json_too", [True, False])
def test_the_command_prints_what_it_found(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    json_too: bool,
) -> None:
    options = ["--json"] if json_too else []
    monkeypatch.setattr("sys.argv", ["keeper", "case", str(written(tmp_path)), *options])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    printed = capsys.readouterr().out
    for name in (ONE, TWO, ANY):
        assert name in printed


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"seize_tokens_raw": "2160000000001"}, "no exchange rate of cXYZ"),
        ({"close_factor": 0.5}, "close_factor has to be a decimal number in quotes"),
        ({"close_factor": "half"}, "close_factor has to be a decimal number in quotes"),
        ({"close_factor": "1e999999999"}, "close_factor has to be a decimal number in quotes"),
        ({"liquidation_incentive": "0.9"}, "out of range"),
        ({"liquidation_incentive": "1.00001"}, "four digits"),
        ({"repay_token": None}, "repay_token is missing"),
        ({"repay_amount_wei": "0.5"}, "whole number of smallest units"),
        ({"repay_decimals": "six"}, "repay_decimals is no number"),
        ({"state_n_minus_1": []}, "two states or more"),
        ({"state_n_minus_1": [{}, {}]}, "neither liquidity_usd nor shortfall_usd"),
        ({"state_n_minus_1": [OWN["state_n_minus_1"][0]] * 2}, "one price only"),
        ({"oracle_price_in_tx": "3"}, "no shortfall at the price"),
        (
            {
                "state_n_minus_1": [
                    *OWN["state_n_minus_1"],
                    {"xyz_price": "3", "liquidity_usd": "1"},
                ]
            },
            "not on a line",
        ),
        ({"paper_table_values": {"xyz_borrowed": "900", "xyz_supplied": "2000"}}, "xyz_supplied"),
        ({"paper_table_values": {}}, "xyz_borrowed"),
        ({"paper_table_values": None}, "paper_table_values is missing"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as found:
        study(read_case(written(tmp_path, **changes)))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("{", "is no JSON"), ("[]", "one JSON object"), ("[" * 2_000, "is no JSON"), (None, "read")],
)
def test_what_is_no_case_is_one_line(tmp_path: Path, text: str | None, complaint: str) -> None:
    path = tmp_path / "no.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        read_case(path)
