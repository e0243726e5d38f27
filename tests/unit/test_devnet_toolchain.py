"""Cache and tools of the local chain."""

import threading
import time

import pytest

from keeper.devnet.cache import cache_folder, cached, fingerprint
from keeper.devnet.toolchain import find_anvil, find_node, run_tool
from keeper.errors import ConfigError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KEEPER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("KEEPER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "keeper"
    monkeypatch.setenv("KEEPER_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"


def test_fingerprint_tells_parts_apart() -> None:
    assert fingerprint([b"ab", b"c"]) != fingerprint([b"a", b"bc"])
    assert fingerprint([b"a", b"b"]) != fingerprint([b"b", b"a"])


def test_two_at_once_build_once(cache) -> None:
    built: list[int] = []

    def build(folder) -> None:
        built.append(1)
        time.sleep(0.05)
        (folder / "result").write_text("whole")

    threads = [threading.Thread(target=cached, args=("thing", "key", build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]
    assert (cache / "thing-key" / "result").read_text() == "whole"


def test_a_failed_build_leaves_nothing_behind(cache) -> None:
    def fail(folder) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        cached("thing", "key", fail)
    assert [path.name for path in cache.iterdir()] == ["thing-key.lock"]


def test_what_a_killed_build_left_is_cleared(cache) -> None:
    (cache / ".thing-key-dead").mkdir(parents=True)
    (cache / ".thing-other-alive").mkdir()
    cached("thing", "key", lambda folder: None)
    names = {path.name for path in cache.iterdir()}
    assert names == {"thing-key", "thing-key.lock", ".thing-other-alive"}


def test_missing_node_is_one_line_with_a_hint(monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        find_node()
    assert "node and npm were not found" in str(caught.value)
    assert "\n" not in str(caught.value)


def fake_anvil(folder, version: str):
    script = folder / "anvil"
    script.write_text(f"#!/bin/sh\necho 'anvil Version: {version}-stable'\n")
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    ("version", "fits"), [("1.7.1", True), ("1.6.0", False), ("1.7.10", False)]
)
def test_elsewhere_anvil_comes_from_path_with_its_version(
    monkeypatch, tmp_path, version, fits
) -> None:
    script = fake_anvil(tmp_path, version)
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if fits:
        assert find_anvil(tmp_path) == script
    else:
        with pytest.raises(ConfigError, match=r"install Foundry 1\.7\.1"):
            find_anvil(tmp_path)


def test_a_failing_tool_gives_its_first_line(tmp_path) -> None:
    with pytest.raises(ConfigError) as caught:
        run_tool(
            ["/bin/sh", "-c", "echo no space >&2; echo more >&2; exit 3"],
            tmp_path,
            "ci failed",
            "retry",
        )
    assert str(caught.value) == "ci failed: no space → retry"
