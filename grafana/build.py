"""Write dashboards and rules: `python -m grafana.build`, or `--check` to see that they are current."""

import argparse
import json
import sys
from pathlib import Path

from grafana.boards.fleet import FLEET
from grafana.boards.margin import MARGIN
from grafana.boards.overview import OVERVIEW
from grafana.boards.protocol import PROTOCOL_BOARD
from grafana.rules import rules

HERE = Path(__file__).parent
BOARDS = (OVERVIEW, FLEET, MARGIN, PROTOCOL_BOARD)


def outputs() -> dict[Path, str]:
    """Return the text of every file that is generated."""
    texts = {
        HERE / "dashboards" / f"{board.file}.json": json.dumps(board.model(), indent=1) + "\n"
        for board in BOARDS
    }
    texts[HERE / "rules" / "keeper.yaml"] = rules()
    return texts


def stale() -> list[str]:
    """Return the names of files that are not what would be written, or that nothing writes."""
    texts = outputs()
    there = {*HERE.glob("dashboards/*"), *HERE.glob("rules/*")}
    differing = {
        path
        for path, text in texts.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    return sorted(path.relative_to(HERE).as_posix() for path in differing | (there - set(texts)))


def main() -> int:
    """Write everything, or with `--check` return 1 when what is committed differs."""
    parser = argparse.ArgumentParser(prog="grafana.build", description="Write boards and rules.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if parser.parse_args().check:
        names = stale()
        for name in names:
            sys.stderr.write(f"{name} is stale: run python -m grafana.build\n")
        return 1 if names else 0
    for path, text in outputs().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
