"""The rules as they are committed: they load, and each alert fires when it is to and not before."""

import subprocess
from pathlib import Path

import pytest
import yaml

from grafana import limits
from grafana.alerts import ALERTS, RECORDS
from grafana.rules import rules
from tests.prometheus.rule_cases import CASES, document

RULES = Path(__file__).resolve().parents[2] / "grafana" / "rules" / "keeper.yaml"


def run(promtool: Path, *arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [promtool, *arguments], check=False, capture_output=True, text=True, cwd=RULES.parent
    )
    return done.returncode, done.stdout + done.stderr


def test_promtool_takes_every_rule(promtool: Path) -> None:
    code, said = run(promtool, "check", "rules", RULES)
    assert (code, f"{len(ALERTS) + len(RECORDS)} rules found" in said) == (0, True), said


def test_promtool_takes_the_stack_s_configuration(promtool: Path) -> None:
    config = RULES.parents[1] / "stack" / "prometheus.yaml"
    code, said = run(promtool, "check", "config", config)
    assert code == 0, said


def test_amtool_takes_the_stack_s_configuration(tools: Path) -> None:
    config = RULES.parents[1] / "stack" / "alertmanager.yaml"
    code, said = run(tools / "amtool", "check-config", config)
    assert (code, "1 receivers" in said) == (0, True), said


def test_each_alert_has_its_case() -> None:
    assert [case.alert for case in CASES] == [alert.name for alert in ALERTS]


def test_alerts_fire_when_they_are_to(promtool: Path, tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(document(str(RULES)), encoding="utf-8")
    code, said = run(promtool, "test", "rules", file)
    assert code == 0, said


@pytest.mark.parametrize(
    ("alert", "right", "wrong"),
    [
        ("KeeperWalletRunningDry", f"< {limits.GAS_TRANSACTIONS}", "< 5"),
        ("KeeperNothingSent", "[30m]", "[3m]"),
        ("KeeperHeadStale", "for: 60s", "for: 300s"),
    ],
)
def test_a_rule_that_is_off_is_noticed(
    promtool: Path, tmp_path: Path, alert: str, right: str, wrong: str
) -> None:
    bent = tmp_path / "bent.yaml"
    assert right in rules()
    bent.write_text(rules().replace(right, wrong), encoding="utf-8")
    file = tmp_path / "cases.yaml"
    file.write_text(document(str(bent), [alert]), encoding="utf-8")
    assert run(promtool, "test", "rules", file)[0] != 0


def test_faster_rules_keep_their_thresholds() -> None:
    def parsed(text: str) -> list[dict[str, str]]:
        return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]

    for real, fast in zip(parsed(rules()), parsed(rules(faster=60)), strict=True):
        assert real.get("alert") == fast.get("alert")
        assert fast["expr"].count("[") == real["expr"].count("[")
        if "for" in real:
            assert int(real["for"][:-1]) == 60 * int(fast["for"][:-1])
