"""Queues what was seen and skipped for the journal."""

from keeper.engine import Report
from keeper.observers.observation import Event, Observer
from keeper.ports import Journal


def record(journal: Journal) -> Observer:
    """Return an observer that queues what was seen and skipped for the journal."""

    def observe(subject: Report | Event) -> None:
        if isinstance(subject, Report):
            chosen = [choice.opportunity for choice in subject.choices]
            journal.observe(subject.view, chosen, subject.skips)

    return observe
