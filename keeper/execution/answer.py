"""What a node's answer to a sent transaction means."""

from enum import StrEnum

from keeper.errors import RpcError, TransientError
from keeper.types import Reason


class Answer(StrEnum):
    """The classes of answers; only `UNKNOWN` leaves open whether the node holds the transaction.

    `NONCE` is used already, `OCCUPIED` held in the pool by a transaction of too much the same fees;
    `LIMIT` says the pool takes no more, of this account or at all, `RELAYS` that all relays refuse.
    """

    ACCEPTED = "accepted"
    NONCE = "nonce"
    OCCUPIED = "occupied"
    LIMIT = "limit"
    UNDERPRICED = "underpriced"
    FUNDS = "funds"
    INVALID = "invalid"
    RELAYS = "relays"
    UNKNOWN = "unknown"


REASONS = {
    Answer.NONCE: Reason.IN_FLIGHT,
    Answer.OCCUPIED: Reason.IN_FLIGHT,
    Answer.LIMIT: Reason.IN_FLIGHT,
    Answer.UNDERPRICED: Reason.GAS_CAP,
    Answer.FUNDS: Reason.CAPITAL,
    Answer.INVALID: Reason.SIMULATION_FAILED,
    Answer.RELAYS: Reason.TIMEOUT,
}
"""The skip each refusal becomes."""

# geth, Nethermind, Besu, Erigon, Reth and anvil word the same refusals differently.
_TEXTS = (
    # before what is known: an unknown type is no known transaction
    (Answer.INVALID, ("unknown transaction", "transaction type not supported")),
    (Answer.ACCEPTED, ("already known", "already imported", "known transaction", "alreadyknown")),
    (Answer.NONCE, ("nonce too low", "oldnonce", "nonce is too low", "nonce too high")),
    (
        Answer.OCCUPIED,
        ("replacement transaction underpriced", "replacementnotallowed", "replacement fee too low"),
    ),
    (
        Answer.LIMIT,
        (
            "in-flight transaction limit",
            "inflight transaction limit",
            "account limit exceeded",
            "delegated account",
            "txpool is full",
            "transaction pool is full",
        ),
    ),
    (
        Answer.UNDERPRICED,
        ("underpriced", "less than block base fee", "feetoolow", "fee too low", "gas price below"),
    ),
    (Answer.FUNDS, ("insufficient funds", "insufficientfunds", "upfront cost exceeds")),
    (
        Answer.INVALID,
        (
            "intrinsic gas too",
            "exceeds block gas limit",
            "gas limit too high",
            "gas limit exceeded",
            "gaslimitexceeded",
            "exceeds the configured cap",
            "invalid sender",
            "invalid signature",
            "invalid chain id",
            "oversized data",
            "rlp:",
            "tip above fee cap",
            "max priority fee per gas higher",
            "sender is not an eoa",
            "sender not an eoa",
        ),
    ),
)


def classify(error: TransientError) -> Answer:
    """Classify what came instead of a transaction hash; no answer at all is `UNKNOWN`."""
    if not isinstance(error, RpcError):
        return Answer.UNKNOWN
    text = error.message.lower()
    for answer, phrases in _TEXTS:
        if any(phrase in text for phrase in phrases):
            return answer
    return Answer.UNKNOWN
