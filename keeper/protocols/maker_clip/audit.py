"""Compare the ledger with the chain at the head it stands at."""

import random

from keeper.chain.words import answers, uint
from keeper.ports import Reader
from keeper.protocols.maker_clip.bootstrap import kind, sales, urn_call
from keeper.protocols.maker_clip.ledger import Kind, Ledger, Sale, Urn
from keeper.types import Drift, Head


async def audit(reader: Reader, ledger: Ledger, head: Head, sample: int, seed: int) -> list[Drift]:
    """Return what differs in the kind's figures, in all debts, and in random auctions and urns."""
    chance = random.Random(seed)
    running, urns, mine = dict(ledger.sales), dict(ledger.urns), ledger.kind
    numbers = chance.sample(sorted(running), min(sample, len(running)))
    owners = chance.sample(sorted(urns), min(sample, len(urns)))
    actual, debts = await kind(reader, ledger, head)
    held = sum(urn.art for urn in urns.values())
    found = [
        Drift(name, getattr(mine, name), getattr(actual, name))
        for name in Kind.__slots__
        if getattr(mine, name) != getattr(actual, name)
    ]
    if held != debts:
        found.append(Drift("debt of all urns", held, debts))
    for number, told in zip(numbers, await sales(reader, ledger, numbers, head), strict=True):
        found += _differ(f"auction {number}", running[number], told or Sale(0, 0, 0, 0))
    asked = await reader.multicall([urn_call(ledger, owner) for owner in owners], head.hash)
    for owner, data in zip(owners, answers(asked, f"audit of {ledger.market}", 2), strict=True):
        found += _differ(f"urn 0x{owner.hex()}", urns[owner], Urn(uint(data), uint(data, 1)))
    return found


def _differ(subject: str, held: Sale | Urn, actual: Sale | Urn) -> list[Drift]:
    return [
        Drift(f"{subject} {name}", mine, theirs)
        for name, mine, theirs in zip(held._fields, held, actual, strict=True)
        if mine != theirs
    ]
