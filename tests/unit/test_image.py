"""The image and the stack as they are written; `make image` runs the Dockerfile's steps."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from keeper.cli import app
from tests.tools.image_check import admitted, steps

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STEPS = list(steps(DOCKERFILE))
STACK = yaml.safe_load((ROOT / "grafana" / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = STACK["services"].items()
EACH_SERVICE = pytest.mark.parametrize(("name", "service"), SERVICES, ids=STACK["services"])


def texts(word: str) -> list[str]:
    return [step.text for step in STEPS if step.word == word]


def test_both_stages_stand_on_one_pinned_base() -> None:
    (base,) = texts("ARG")
    assert re.fullmatch(r"PYTHON=python:3\.\d+\.\d+-slim-\w+", base)
    assert texts("FROM") == ["${PYTHON} AS builder", "${PYTHON}"]


def test_only_the_environment_reaches_the_last_stage() -> None:
    last = max(number for number, step in enumerate(STEPS) if step.word == "FROM")
    copied = [step.text for step in STEPS[last:] if step.word == "COPY"]
    assert copied == ["--from=builder /opt/keeper /opt/keeper"]
    assert not any("pip" in step.text for step in STEPS[last:] if step.word == "RUN")


def test_whatever_is_installed_has_its_hash() -> None:
    for text in texts("RUN"):
        for command in re.findall(r"pip [^&]*install[^&]*", text):
            assert "--require-hashes" in command or "dist/*.whl" in command


def test_it_runs_as_nobody_and_is_looked_after() -> None:
    assert texts("USER") == ["65532:65532"]
    assert texts("STOPSIGNAL") == ["SIGTERM"]
    assert texts("ENTRYPOINT") == ['["keeper"]']
    (check,) = texts("HEALTHCHECK")
    assert "/healthz" in check


def test_the_build_sees_no_more_than_it_copies() -> None:
    names = admitted((ROOT / ".dockerignore").read_text(encoding="utf-8"))
    copied = {
        name
        for text in texts("COPY")
        if not text.startswith("--from")
        for name in text.split()[:-1]
    }
    assert set(names) == copied
    assert all((ROOT / name).exists() for name in names)


@EACH_SERVICE
def test_a_service_is_pinned_hardened_and_watched(name: str, service: dict[str, Any]) -> None:
    if "image" in service:
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"])
    else:
        assert service["build"] == {"context": "..", "dockerfile": "Dockerfile"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert "healthcheck" in service or name == "keeper"
    assert "privileged" not in service
    for port in service["ports"]:
        assert port.startswith("127.0.0.1:")


@EACH_SERVICE
def test_what_a_service_mounts_is_there(name: str, service: dict[str, Any]) -> None:
    for volume in service["volumes"]:
        source = volume.split(":")[0]
        if source.startswith("./"):
            assert (ROOT / "grafana" / source).exists()
            assert volume.endswith(":ro")
        elif not source.startswith("$"):
            assert source in STACK["volumes"]


def without(text: str) -> str:
    """Return a value of the stack as it is where its variables are not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_keeper_can_be_who_owns_the_files_that_it_reads_and_writes() -> None:
    keeper = STACK["services"]["keeper"]
    assert keeper["user"].startswith("${KEEPER_USER:-")
    assert [without(keeper["user"])] == texts("USER")
    (data,) = (each for each in keeper["volumes"] if each.endswith(":/data"))
    # a new named volume belongs to the image's user, whoever runs it
    assert data.startswith("${KEEPER_DATA:-")
    assert without(data).removesuffix(":/data") in STACK["volumes"]


def test_what_the_configuration_refers_to_comes_from_a_file_beside_it() -> None:
    keeper = STACK["services"]["keeper"]
    assert keeper["env_file"] == [{"path": "${KEEPER_FOLDER}/keeper.env", "required": False}]
    assert any(each.startswith("${KEEPER_FOLDER:?") for each in keeper["volumes"])


def test_the_second_file_says_live_and_nothing_else() -> None:
    text = (ROOT / "grafana" / "live.yaml").read_text(encoding="utf-8")
    (name, *flags) = yaml.safe_load(text).pop("services").pop("keeper").pop("command")
    group = typer.main.get_command(app)
    with group.make_context("keeper", [name, *flags]) as outer:
        _, command, rest = group.resolve_command(outer, [name, *flags])  # type: ignore[attr-defined]
        assert command.make_context(name, rest).params["live"] is True
    assert yaml.safe_load(text) == {"services": {"keeper": {"command": [name, *flags]}}}


def test_what_grafana_is_told_is_defined() -> None:
    text = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "grafana" / "provisioning").rglob("*.yaml")
    )
    assert set(re.findall(r"\$\{(\w+)\}", text)) <= set(STACK["services"]["grafana"]["environment"])


def test_who_is_asked_is_a_service() -> None:
    folder = ROOT / "grafana" / "stack"
    text = (folder / "prometheus.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r'"(\w+):\d+"', text)) <= set(STACK["services"])
