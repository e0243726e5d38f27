"""What plug-in authors import stays what it was: names, signatures, fields.

After a change on purpose: python -m tests.unit.test_public_face, and think about PLUGIN_API.
"""

import enum
import inspect
import json
import subprocess
import sys
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import keeper

FILE = Path(__file__).with_name("public_face.json")


def describe(value: Any) -> Any:
    """Return the shape of one public name: what a plug-in could depend on."""
    if isinstance(value, type) and issubclass(value, enum.Enum):
        return {"enum": {member.name: member.value for member in value}}
    if is_dataclass(value) and isinstance(value, type):
        shown = {
            field.name: str(field.type)
            + ("" if field.default is MISSING and field.default_factory is MISSING else " = …")
            for field in fields(value)
        }
        return {"fields": shown, **_methods(value)}
    if isinstance(value, type) and issubclass(value, Exception):
        return {"bases": [base.__name__ for base in value.__bases__], **_methods(value)}
    if isinstance(value, type):
        return _methods(value)
    if inspect.isfunction(value):
        return str(inspect.signature(value))
    if hasattr(value, "__supertype__"):
        return f"NewType of {value.__supertype__.__name__}"
    return value


def _methods(value: type) -> dict[str, Any]:
    shown = {}
    for name, member in sorted(vars(value).items()):
        if isinstance(member, property):
            shown[name] = "property"
        elif inspect.isfunction(member) and not name.startswith("_"):
            shown[name] = str(inspect.signature(member))
    return {"methods": shown}


def face() -> dict[str, Any]:
    return {name: describe(getattr(keeper, name)) for name in keeper.__all__}


def test_the_face_is_the_committed_one() -> None:
    assert face() == json.loads(FILE.read_text(encoding="utf-8"))


def test_names_are_complete_and_sorted() -> None:
    # As ruff sorts: constants, then classes, then functions.
    assert keeper.__all__ == sorted(
        keeper.__all__, key=lambda name: (not name.isupper(), name.islower(), name)
    )
    assert all(hasattr(keeper, name) for name in keeper.__all__)  # what is looked at is loaded
    public = {
        name
        for name, value in vars(keeper).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(keeper.__all__)


def test_the_face_is_light() -> None:
    script = (
        "import sys; from keeper import *;"
        " print([m for m in ('web3', 'numpy', 'pydantic', 'aiohttp')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    FILE.write_text(json.dumps(face(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
