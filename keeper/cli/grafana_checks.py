"""Check boards and rules: that this version exports what they name, or that a Prometheus has it."""

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from keeper.cli.grafana_files import files
from keeper.errors import ConfigError, TransientError

TIMEOUT_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found at one place; `empty` is a query without data, which may be right."""

    where: str
    state: Literal["ok", "empty", "fault"]
    what: str = ""

    def as_row(self) -> dict[str, str]:
        """Return it for JSON."""
        return asdict(self)


def exported() -> list[Finding]:
    """Return for each metric that boards or rules name whether this version exports it."""
    from keeper.metrics import ChainLabels, Metrics

    labels = ChainLabels(12, ["p"], endpoints=["e"], wallets=["w"], relays=["r"])
    made = Metrics(version="", commit="", mode="dry", chains={"c": labels}, strategies=["s"])
    known = {
        family.name + suffix
        for family in made.registry.collect()
        for suffix in ("", "_total", "_bucket", "_sum", "_count")
    }
    named: dict[str, str] = {}
    for name, source in files():
        if name.suffix in {".json", ".yaml"}:
            text = source.read_text(encoding="utf-8")
            for metric in re.findall(r"(?<![\w:])keeper_\w+", text):
                named.setdefault(metric, name.as_posix())
    return [
        Finding(f"{file} {metric}", "ok")
        if metric in known
        else Finding(f"{file} {metric}", "fault", "this version exports no such metric")
        for metric, file in sorted(named.items())
    ]


def asked(url: str, job: str) -> list[Finding]:
    """Ask a Prometheus every query of every panel, and which alerts it has loaded.

    Raises ConfigError when the URL is none, TransientError when nobody answers there.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError("--prometheus must start with http:// or https://")
    base = url.rstrip("/")
    found = []
    for board, title, query in queries():
        where = f"{board} “{title}”"
        values, complaint = _values(base, filled(query, job))
        if complaint:
            found.append(Finding(where, "fault", complaint))
        elif not any(not math.isnan(value) for value in values):
            found.append(Finding(where, "empty", query))
        else:
            found.append(Finding(where, "ok"))
    answer = _get(base, "/api/v1/rules?type=alert")
    groups = answer.get("data", {}).get("groups", [])
    loaded = {rule["name"]: rule for group in groups for rule in group["rules"]}
    for alert in alerts():
        rule = loaded.get(alert)
        if rule is None:
            found.append(Finding(f"alert {alert}", "fault", "is not loaded: see rule_files"))
        elif rule.get("health") == "err":
            found.append(Finding(f"alert {alert}", "fault", str(rule.get("lastError"))))
        else:
            found.append(Finding(f"alert {alert}", "ok"))
    return found


def queries() -> Iterator[tuple[str, str, str]]:
    """Yield board, panel and query of all boards."""
    for name, source in files():
        if name.parts[0] == "dashboards":
            for panel in _panels(json.loads(source.read_text(encoding="utf-8"))["panels"]):
                for target in panel.get("targets", ()):
                    yield name.stem, panel["title"], target["expr"]


def alerts() -> list[str]:
    """Return the names of all alerts."""
    texts = (
        source.read_text(encoding="utf-8") for name, source in files() if name.parts[0] == "rules"
    )
    return [
        name for text in texts for name in re.findall(r"^ *-? *alert: (\w+)$", text, re.MULTILINE)
    ]


def filled(query: str, job: str) -> str:
    """Put in what Grafana would: one job, everything of all others, and an hour."""
    text = re.sub(r"\$__\w+", "1h", query).replace("$job", job.replace("\\", "").replace('"', ""))
    return re.sub(r"\$\w+", ".*", text)


def _panels(nodes: list[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for node in nodes:
        yield node
        yield from _panels(node.get("panels", []))


def _values(base: str, query: str) -> tuple[list[float], str]:
    """Return the values a query answers with, or why it does not."""
    answer = _get(base, "/api/v1/query?" + urllib.parse.urlencode({"query": query}))
    if answer.get("status") != "success":
        return [], str(answer.get("error", "no answer"))
    return [float(each["value"][1]) for each in answer["data"]["result"]], ""


def _get(base: str, path: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(base + path, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310  # checked to be http
            body = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            body = error.read()
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise TransientError(f"no Prometheus answers at {base} ({reason})") from None
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if not isinstance(said, dict) or "status" not in said:
        raise TransientError(f"what answers at {base} is no Prometheus")
    return said
