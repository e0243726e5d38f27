"""One finding: what was looked at, how it stands, and what to do about it."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

from keeper.errors import ConfigError, KeeperError


class State(StrEnum):
    """How a check ended; a warning does not keep the keeper from starting."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """A finding about a chain, or about the process when `chain` is empty."""

    chain: str
    name: str
    state: State
    detail: str
    hint: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the fields as they are printed."""
        return asdict(self)


Finding = tuple[State, str, str]


async def look(chain: str, name: str, examine: Callable[[], Awaitable[Finding]]) -> Check:
    """Run one check; an error of ours is its failure, another is a bug and passes through."""
    try:
        state, detail, hint = await examine()
    except ConfigError as error:
        return Check(chain, name, State.FAIL, error.message, error.hint)
    except KeeperError as error:
        return Check(chain, name, State.FAIL, str(error))
    return Check(chain, name, state, detail, hint)


def worst(checks: Iterable[Check]) -> State:
    """Return the worst state among checks."""
    states = {check.state for check in checks}
    return next((each for each in (State.FAIL, State.WARN) if each in states), State.OK)


def refuse(checks: Iterable[Check]) -> None:
    """Raise `ConfigError` for the first failed check."""
    for check in checks:
        if check.state is State.FAIL:
            where = f"{check.chain}: " if check.chain else ""
            raise ConfigError(where + check.detail, check.hint)
