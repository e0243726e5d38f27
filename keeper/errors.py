"""Exceptions, sorted by who has to act.

KeeperError
├── ConfigError      the operator: one line and a hint, exit 2
├── TransientError   nobody: an idempotent read is retried
│   ├── RpcError        the node answered with a JSON-RPC error
│   ├── StateGoneError  the node does not hold the block read at: read at a newer one
│   └── IncompleteError what the node told does not add up: read again at a newer block
├── InvariantError   the keeper stops that market (or chain) and says so
│   ├── UndecodableError    a log of a watched contract makes no sense
│   └── ReorgTooDeepError   the keeper loads that chain's book anew
└── PluginError      the keeper disables that plug-in and says so
"""


class KeeperError(Exception):
    """Stand above every error raised on purpose."""


class ConfigError(KeeperError):
    """Report bad input: what, where, and a hint on how to mend it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} → {self.hint}" if self.hint else self.message


class TransientError(KeeperError):
    """Report a failure of the outside world that a later attempt may not meet."""


class RpcError(TransientError):
    """Carry a JSON-RPC error object; `data` holds revert bytes when the node sent them."""

    def __init__(self, method: str, code: int, message: str, data: bytes | None = None) -> None:
        super().__init__(f"{method}: {message} (code {code})")
        self.method = method
        self.code = code
        self.message = message
        self.data = data


class StateGoneError(TransientError):
    """Report that a block's state was dropped, or the block replaced, while it was read."""


class IncompleteError(TransientError):
    """Report that what a node told does not add up; `hint` says what else may be the cause."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InvariantError(KeeperError):
    """Report that what we hold to be true is not; `scope` names the market or chain to stop."""

    def __init__(self, scope: str, message: str) -> None:
        super().__init__(f"{scope}: {message}")
        self.scope = scope


class UndecodableError(InvariantError):
    """Report a log that a watched contract cannot have written as its rules are known."""


class ReorgTooDeepError(InvariantError):
    """Report that folding and undoing cannot bring the book to the chain: it is loaded anew."""


class PluginError(KeeperError):
    """Blame a plug-in by name for an exception or a broken contract."""

    def __init__(self, plugin: str, message: str) -> None:
        super().__init__(f"{plugin}: {message}")
        self.plugin = plugin
