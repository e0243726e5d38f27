"""Run the Dockerfile's steps without Docker, in an empty folder and an empty environment.

`python -m tests.tools.image_check` copies what the build context holds, runs every RUN line with the
image's absolute paths below the folder, and starts the keeper as the image's user.
"""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("/opt/keeper", "/data", "/src")
"""Absolute paths that the image has and this machine has not."""
INHERITED = ("PIP_INDEX_URL", "PIP_CERT", "PIP_CONFIG_FILE", "HTTPS_PROXY", "SSL_CERT_FILE", "HOME")
"""How pip finds its index on this machine."""


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of a Dockerfile."""

    word: str
    text: str


def steps(dockerfile: str) -> Iterator[Step]:
    """Yield the instructions, continued lines joined and comments left out."""
    lines = (line for line in dockerfile.splitlines() if not line.startswith("#"))
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, text = line.partition(" ")
            yield Step(word, text.strip())


def admitted(ignore: str) -> list[str]:
    """Return what a .dockerignore that starts with everything lets into the build."""
    rules = [line for line in ignore.splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    return [rule[1:] for rule in rules if rule.startswith("!")]


class Image:
    """Builds both stages below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context = folder / "context"
        self._env: dict[str, str] = {}
        self._arguments: dict[str, str] = {}
        self._user: int | None = None
        self.ended: list[Step] = []

    def build(self, dockerfile: str) -> None:
        """Run every step. Raises CalledProcessError for one that fails."""
        self._fill()
        for step in steps(dockerfile):
            self._step(step)
            self.ended.append(step)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the finished image, as its user."""
        return subprocess.run(
            command,
            cwd=self._at("/data"),
            env={**self._env, "HOME": "/nonexistent"},
            check=False,
            capture_output=True,
            text=True,
            user=self._user if self.is_users else None,
        )

    @property
    def is_users(self) -> bool:
        """Say whether the image's user can be taken on: we are root, and it reaches this Python."""
        python = Path(sys.executable).resolve()
        return os.geteuid() == 0 and all(each.stat().st_mode & 0o001 for each in python.parents)

    def _fill(self) -> None:
        ignore = shutil.ignore_patterns("__pycache__")
        for name in admitted((ROOT / ".dockerignore").read_text()):
            source, target = ROOT / name, self._context / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=ignore)
            else:
                shutil.copy(source, target)

    def _step(self, step: Step) -> None:
        match step.word:
            case "ARG":
                name, _, value = step.text.partition("=")
                self._arguments[name] = value
            case "FROM":
                base = self._folder / f"base{len(self.ended)}"
                venv.create(base, with_pip=True, symlinks=True)
                known = {name: os.environ[name] for name in INHERITED if name in os.environ}
                self._env = {**known, "PATH": f"{base / 'bin'}:/usr/bin:/bin"}
            case "ENV":
                for name, value in re.findall(r"(\w+)=(\S+)", step.text):
                    self._env[name] = self._moved(value).replace("$PATH", self._env["PATH"])
            case "WORKDIR":
                self._at(step.text).mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(step.text.split())
            case "RUN":
                text = self._moved(step.text)
                if os.geteuid() != 0:
                    text = re.sub(r"install -d -o \d+ -g \d+", "install -d", text)
                command = ["sh", "-euc", text]
                subprocess.run(command, cwd=self._at("/src"), env=self._env, check=True)
            case "USER":
                self._user = int(step.text.partition(":")[0])
            case (
                "LABEL" | "VOLUME" | "EXPOSE" | "STOPSIGNAL" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD"
            ):
                pass
            case _:
                raise ValueError(f"{step.word} is not known here")

    def _copy(self, words: Sequence[str]) -> None:
        if words[0].startswith("--from="):
            assert words[1] == words[2]
            return  # both stages are below one folder
        *names, last = words
        target = self._at("/src") / last
        for name in names:
            source = self._context / name
            into = target / name if last.endswith("/") else target
            if source.is_dir():
                shutil.copytree(source, into, dirs_exist_ok=True)
            else:
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, into)

    def _at(self, path: str) -> Path:
        return self._folder / path.lstrip("/")

    def _moved(self, text: str) -> str:
        for place in PLACES:
            text = re.sub(rf"(?<![\w.]){re.escape(place)}\b", str(self._at(place)), text)
        return text


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def secrets(context: Path) -> list[Path]:
    """Return files of the build context that look like a key or a configuration with one."""
    patterns = ("*.key", "keeper.toml", ".env*", "*keystore*.json", "*.sqlite*")
    return [
        path
        for path in context.rglob("*")
        if path.is_file() and any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)
    ]


def main() -> int:
    """Build, look at what was built, and run it; return 0 when all of it holds."""
    folder = Path(tempfile.mkdtemp(prefix="keeper-image-"))
    folder.chmod(0o755)
    try:
        image = Image(folder)
        image.build((ROOT / "Dockerfile").read_text())
        checks = {
            "no secret in the build context": not secrets(folder / "context"),
            "the keeper starts": image.run("keeper", "--version").returncode == 0,
            "its boards are with it": image.run("keeper", "grafana", "check").returncode == 0,
            "its plug-ins load": image.run("keeper", "plugins").returncode == 0,
            "no setting is one line": image.run("keeper", "run").returncode == 2,
            "it may write to /data": image.run("sh", "-c", "touch mine && rm mine").returncode == 0,
            "no installer is in it": not (folder / "opt/keeper/bin/pip").exists(),
        }
        if image.is_users:
            written = image.run("touch", str(folder / "opt/keeper/x")).returncode == 0
            checks["and to nothing else"] = not written
        else:
            print("not as the image's user: it needs root, and a Python that everybody may run")
        for name, holds in checks.items():
            print(f"{'ok  ' if holds else 'FAIL'} {name}")
        print(f"{len(image.ended)} steps, {size_of(folder / 'opt') / 1e6:.0f} MB over the base")
        return 0 if all(checks.values()) else 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
