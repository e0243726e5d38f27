"""`keeper grafana`: what it writes, and what it finds missing."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from grafana.alerts import ALERTS
from keeper.cli import main
from keeper.cli.grafana_checks import alerts, asked, exported, filled, queries
from keeper.cli.grafana_files import files, home
from keeper.errors import ConfigError, TransientError


class Answers(BaseHTTPRequestHandler):
    """A server that answers every query as one of its kind would."""

    kind = "prometheus"

    def do_GET(self) -> None:
        if self.kind == "other":
            body = b"<html>"
        elif self.path.startswith("/api/v1/rules"):
            rules = [{"name": alert.name, "health": "ok"} for alert in ALERTS[1:]]
            body = json.dumps(
                {"status": "success", "data": {"groups": [{"rules": rules}]}}
            ).encode()
        elif "memory" in self.path:
            body = b'{"status": "error", "error": "too many samples"}'
        else:
            value = "NaN" if "cpu" in self.path else "1"
            result = [{"metric": {}, "value": [0, value]}]
            body = json.dumps({"status": "success", "data": {"result": result}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base names it
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as listening:
        thread = Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/"
        listening.shutdown()
        thread.join()


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["keeper", "grafana", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_what_is_exported_is_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("export", str(tmp_path / "new"), monkeypatch=monkeypatch) == 0
    written = {path.relative_to(tmp_path / "new") for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {name for name, _ in files()}
    for name, source in files():
        assert (tmp_path / "new" / name).read_text() == source.read_text()


def test_alerts_link_to_the_runbook_that_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = "https://wiki.example/keeper"
    assert run("export", str(tmp_path), "--runbook", link, monkeypatch=monkeypatch) == 0
    text = (tmp_path / "rules" / "keeper.yaml").read_text()
    assert text.count(f"runbook_url: {link}#keeper") == len(ALERTS)


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run("export", str(tmp_path / "file"), monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_this_version_exports_all_that_is_asked_for() -> None:
    found = exported()
    assert len(found) > 50
    assert {each.state for each in found} == {"ok"}


def test_a_metric_nobody_exports_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, source in files():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(
            source.read_text().replace("keeper_positions{", "keeper_poss{")
        )
    assert home() != tmp_path
    monkeypatch.setattr("keeper.cli.grafana_files.home", lambda: tmp_path)
    assert run("check", monkeypatch=monkeypatch) == 3
    assert "keeper_poss: this version exports no such metric" in capsys.readouterr().out


def test_a_prometheus_is_asked_every_query(server: str) -> None:
    found = asked(server, "keeper")
    assert len(found) == len(list(queries())) + len(ALERTS)
    faults = {(each.where, each.what) for each in found if each.state == "fault"}
    assert ("alert KeeperDown", "is not loaded: see rule_files") in faults
    assert ("keeper “Memory”", "too many samples") in faults
    assert all("Memory" in where or where == "alert KeeperDown" for where, _ in faults)
    assert {each.where for each in found if each.state == "empty"} == {
        "keeper “CPU”",
        "fleet “CPU”",
    }


def test_whoever_answers_has_to_be_a_prometheus(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "kind", "other")
    with pytest.raises(TransientError, match="is no Prometheus"):
        asked(server, "keeper")
    with pytest.raises(TransientError, match="no Prometheus answers"):
        asked("http://127.0.0.1:1", "keeper")
    with pytest.raises(ConfigError):
        asked("127.0.0.1:9090", "keeper")


def test_json_has_every_finding(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", "--prometheus", server, "--json", monkeypatch=monkeypatch) == 3
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert {each["state"] for each in said["findings"]} == {"ok", "empty", "fault"}


def test_variables_are_filled_in() -> None:
    query = 'rate(a{job="$job",chain=~"$chain"}[$__rate_interval])'
    assert filled(query, "mine") == 'rate(a{job="mine",chain=~".*"}[1h])'
    assert filled(query, 'x"}\\') == 'rate(a{job="x}",chain=~".*"}[1h])'


def test_alerts_are_read_from_the_rules() -> None:
    assert alerts() == [alert.name for alert in ALERTS]
