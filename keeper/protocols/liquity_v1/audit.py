"""Compare the ledger with the chain at the head it stands at."""

import random
from dataclasses import fields

from keeper.chain.words import answers, read, uint
from keeper.ports import Reader
from keeper.protocols.liquity_v1 import rules
from keeper.protocols.liquity_v1.bootstrap import system_calls, system_of, trove_calls, trove_of
from keeper.protocols.liquity_v1.ledger import Ledger, System, Trove
from keeper.protocols.liquity_v1.terms import Deployment
from keeper.types import Call, Drift, Head
from keeper.units import Address

UNTOLD = 1_000
"""Wei by which interest that was added without a log may differ: less than one each time."""


async def audit(
    reader: Reader, ledger: Ledger, deployment: Deployment, head: Head, sample: int, seed: int
) -> list[Drift]:
    """Return what differs in the system's sums and in `sample` random troves."""
    contracts, system, troves = deployment.contracts, ledger.system, dict(ledger.troves)
    chosen = random.Random(seed).sample(sorted(troves), min(sample, len(troves)))
    calls: list[Call] = [*system_calls(contracts), read(contracts.manager, "getTroveOwnersCount()")]
    for borrower in chosen:
        calls.extend(trove_calls(contracts.manager, borrower))
    data = answers(await reader.multicall(calls, head.hash), f"audit of {ledger.market}")
    first = len(calls) - 2 * len(chosen)
    found = _compare(system, system_of(data[: first - 1], head.timestamp))
    if uint(data[first - 1]) != len(troves):
        found.append(Drift("open troves", len(troves), uint(data[first - 1])))
    for place, borrower in enumerate(chosen):
        actual = trove_of(*data[first + 2 * place : first + 2 * place + 2])
        found += _differ(borrower, troves[borrower], actual)
    return found


def _compare(held: System, actual: System) -> list[Drift]:
    return [
        Drift(field.name, mine, theirs)
        for field in fields(System)
        if (mine := getattr(held, field.name)) != (theirs := getattr(actual, field.name))
        and not (field.name == "accrued_at" and not held.numerator)
    ]


def _differ(borrower: Address, held: Trove, actual: Trove | None) -> list[Drift]:
    name = f"trove 0x{borrower.hex()}"
    if actual is None:
        return [Drift(f"{name} open", 1, 0)]
    if actual.since > held.since:
        # Interest was added without a log: hold it against ours to that time.
        added = rules.interest_down(held.principal, held.rate, held.since, actual.since)
        held = held._replace(interest=held.interest + added, since=actual.since)
        if 0 <= held.interest - actual.interest < UNTOLD:
            held = held._replace(interest=actual.interest)
    return [
        Drift(f"{name} {field}", mine, theirs)
        for field, mine, theirs in zip(Trove._fields, held, actual, strict=True)
        if mine != theirs
    ]
