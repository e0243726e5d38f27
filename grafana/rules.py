"""Write the rules as Prometheus reads them."""

import re
from typing import Any

import yaml

from grafana.alerts import ALERTS, RECORDS

RUNBOOK = "README.md"
"""Put before each alert's anchor; `keeper grafana export --runbook URL` puts its own there."""
INTERVAL_SECONDS = 30
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def rules(*, faster: int = 1) -> str:
    """Return the file of rules as YAML; `faster` divides every duration and no threshold.

    Raises ValueError when a duration does not divide into whole seconds.
    """
    records = [{"record": each.name, "expr": _shortened(each.expr, faster)} for each in RECORDS]
    alerts: list[dict[str, Any]] = []
    for each in ALERTS:
        rule: dict[str, Any] = {"alert": each.name, "expr": _shortened(each.expr, faster)}
        if each.seconds:
            rule["for"] = f"{_divided(each.seconds, faster)}s"
        rule["labels"] = {"severity": each.severity}
        rule["annotations"] = {
            "summary": each.summary,
            "runbook_url": f"{RUNBOOK}#{each.name.lower()}",
        }
        alerts.append(rule)
    every = f"{max(INTERVAL_SECONDS // faster, 1)}s"
    # one group is evaluated in order: an alert sees what was recorded just before
    groups = [{"name": "keeper", "interval": every, "rules": [*records, *alerts]}]
    return yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000)


def _shortened(expr: str, faster: int) -> str:
    """Divide the ranges of a query."""

    def divide(match: re.Match[str]) -> str:
        seconds = int(match[1]) * UNITS[match[2]]
        return match[0] if faster == 1 else f"[{_divided(seconds, faster)}s]"

    return re.sub(r"\[(\d+)([smhd])\]", divide, expr)


def _divided(seconds: int, faster: int) -> int:
    whole, rest = divmod(seconds, faster)
    if rest:
        raise ValueError(f"{seconds} s do not divide by {faster}")
    return whole
