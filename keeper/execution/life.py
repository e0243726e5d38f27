"""The life of one signed transaction: which states there are, and what leads from one to another."""

from enum import StrEnum

from keeper.errors import InvariantError


class State(StrEnum):
    """Where a transaction stands; each is on record before the step that could not be taken back."""

    BUILT = "built"
    SIGNED = "signed"
    SENT = "sent"
    SEEN = "seen"
    INCLUDED = "included"
    REVERTED = "reverted"
    REPLACED = "replaced"
    CANCELLED = "cancelled"
    DROPPED = "dropped"

    @property
    def is_settled(self) -> bool:
        """Whether it is decided, as far as no reorg takes the decision back."""
        return self in SETTLED


SETTLED = frozenset(
    {State.INCLUDED, State.REVERTED, State.REPLACED, State.CANCELLED, State.DROPPED}
)


class Event(StrEnum):
    """What can happen to a transaction."""

    SIGN = "sign"
    HAND_OVER = "hand over"
    SIGHT = "sight"
    SUCCEED = "succeed"
    FAIL = "fail"
    REPLACE = "replace"
    CANCEL = "cancel"
    LOSE = "lose"
    REORG = "reorg"


_OPEN = (State.SIGNED, State.SENT, State.SEEN)

TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.BUILT, Event.SIGN): State.SIGNED,
    (State.BUILT, Event.LOSE): State.DROPPED,
    # an answer may be lost: what was only signed can turn out to be known, or mined
    **{(state, Event.HAND_OVER): State.SENT for state in (State.SIGNED, State.SENT)},
    (State.SEEN, Event.HAND_OVER): State.SEEN,
    **{(state, Event.SIGHT): State.SEEN for state in _OPEN},
    **{(state, Event.SUCCEED): State.INCLUDED for state in _OPEN},
    **{(state, Event.FAIL): State.REVERTED for state in _OPEN},
    **{(state, Event.REPLACE): State.REPLACED for state in _OPEN},
    **{(state, Event.CANCEL): State.CANCELLED for state in _OPEN},
    **{(state, Event.LOSE): State.DROPPED for state in _OPEN},
    **{(state, Event.REORG): State.SENT for state in SETTLED},
}


def after(state: State, event: Event) -> State:
    """Return the state an event leads to; raise `InvariantError` when it cannot happen there."""
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise InvariantError("transaction", f"{event} cannot happen to one that is {state}")
    return following
