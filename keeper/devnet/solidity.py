"""Compile third-party Solidity offline with the solc of an npm package, once per set of inputs."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keeper.devnet.cache import cached, fingerprint
from keeper.devnet.toolchain import NPM_FOLDER, Progress, find_node, run_tool

_SCRIPT = NPM_FOLDER / "compile.cjs"


@dataclass(frozen=True, slots=True)
class Job:
    """Say what one compiler run makes: contract names by source path inside `node_modules`."""

    compiler: str
    settings: Mapping[str, Any]
    remappings: Mapping[str, str]
    contracts: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Artifact:
    """Hold creation code in hex (no prefix) and where library addresses go into it."""

    bytecode: str
    links: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def linked(self, libraries: Mapping[str, bytes]) -> bytes:
        """Return the creation code with every library's address in its places."""
        code = self.bytecode
        for library, places in self.links:
            address = libraries[library].hex()
            for place in places:
                code = code[: 2 * place] + address + code[2 * place + 40 :]
        return bytes.fromhex(code)


def compile_solidity(
    title: str, jobs: Sequence[Job], modules: Path, locked_in: Path, progress: Progress
) -> dict[str, Artifact]:
    """Return the jobs' contracts by name; jobs run side by side, and only the first time.

    `modules` were installed from the lock file in the folder `locked_in`. Raises ConfigError.
    """
    texts = [json.dumps(asdict(job), sort_keys=True) for job in jobs]
    lock = (locked_in / "package-lock.json").read_bytes()

    def build(folder: Path) -> None:
        progress(f"compiling {title} (once, 20 to 40 s)")
        node = find_node().node

        def run(number: int) -> None:
            job, result = f"job-{number}.json", f"contracts-{number}.json"
            (folder / job).write_text(texts[number])
            command = [*node, str(_SCRIPT), str(modules), job, result]
            run_tool(command, folder, f"compiling {title} failed", "clear the cache and retry")

        with ThreadPoolExecutor() as pool:
            list(pool.map(run, range(len(jobs))))

    name = title.lower().replace(" ", "-")
    key = fingerprint([lock, _SCRIPT.read_bytes(), *(text.encode() for text in texts)])
    artifacts = {}
    for path in sorted(cached(name, key, build).glob("contracts-*.json")):
        for contract, item in json.loads(path.read_text()).items():
            links = tuple((library, tuple(places)) for _, library, places in item["links"])
            artifacts[contract] = Artifact(item["bytecode"], links)
    return artifacts
