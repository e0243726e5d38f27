"""The commit shown is the one that runs, or none."""

import subprocess
from importlib.metadata import Distribution
from pathlib import Path

import orjson
import pytest

from keeper.app import build

MADE = "git -c user.name=a -c user.email=a@b.example -c commit.gpgsign=false"


def git(folder: Path, *words: str) -> str:
    ran = subprocess.run([*MADE.split(), *words], cwd=folder, check=True, capture_output=True)
    return ran.stdout.decode().strip()


def test_a_checkout_tells_its_commit_however_git_keeps_it(tmp_path: Path) -> None:
    main, beside = tmp_path / "main", tmp_path / "beside"
    main.mkdir()
    assert build.commit_of(main) == ""
    git(main, "init", "-q", "-b", "main")
    assert build.commit_of(main) == ""
    git(main, "commit", "-q", "--allow-empty", "-m", "first")
    head = git(main, "rev-parse", "HEAD")
    git(main, "worktree", "add", "-q", "-b", "side", str(beside))
    assert (build.commit_of(main), build.commit_of(beside)) == (head, head)
    git(main, "pack-refs", "--all")
    git(main, "commit", "-q", "--allow-empty", "-m", "second")
    assert build.commit_of(beside) == head
    git(main, "checkout", "-q", "--detach")
    assert build.commit_of(main) == git(main, "rev-parse", "HEAD") != head


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ({"url": "x", "vcs_info": {"vcs": "git", "commit_id": "abc"}}, "abc"),
        ({"url": "file:///x", "dir_info": {"editable": True}}, "of the checkout"),
        ({"url": "file:///x", "dir_info": {}}, ""),
        ({"url": "file:///x.whl", "archive_info": {}}, ""),
        (None, ""),
    ],
)
def test_only_what_is_known_of_an_installation_is_told(
    origin: object, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Installed:
        version = "7"

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if origin is None else orjson.dumps(origin).decode()

    monkeypatch.setattr(Distribution, "from_name", lambda _: Installed())
    monkeypatch.setattr(build, "commit_of", lambda _: "of the checkout")
    assert (build.version(), build.commit()) == ("7", told)
