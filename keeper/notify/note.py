"""What a person is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson


class Severity(StrEnum):
    """How much a message matters; what is critical goes out in quiet hours, too."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Note:
    """One message: `key` is the same however often one thing is told, `subject` is what it is about.

    Messages about one subject arrive in the order they were made. `data` holds what JSON can.
    """

    key: str
    time: float
    topic: str
    severity: Severity
    subject: str
    title: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> str:
        """Return the message as JSON."""
        return orjson.dumps(self).decode()

    @staticmethod
    def read(record: str) -> "Note":
        """Return the message that `record` wrote."""
        found = orjson.loads(record)
        return Note(**(found | {"severity": Severity(found["severity"])}))
