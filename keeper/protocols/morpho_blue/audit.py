"""Compare the ledger with the chain at the head it stands at."""

import random
from collections.abc import Sequence

from keeper.chain.words import answers, read, uint
from keeper.ports import Reader
from keeper.protocols.morpho_blue.accounts import SHARDS, borrower_of, number_of, unpack
from keeper.protocols.morpho_blue.ledger import Ledger
from keeper.types import Call, Drift, Head
from keeper.units import ZERO_ADDRESS, Address

WORDS = {
    "supply_assets": 0,
    "supply_shares": 1,
    "borrow_assets": 2,
    "borrow_shares": 3,
    "updated_at": 4,
    "fee": 5,
}
"""Where IMorpho.market has each total."""


async def audit(
    reader: Reader, ledger: Ledger, morpho: Address, head: Head, sample: int, seed: int
) -> list[Drift]:
    """Return what differs in every market's totals and in a random sample of borrowers.

    What is compared is frozen before the first read, for the ledger goes on meanwhile.
    """
    calls: list[Call] = []
    held: list[list[tuple[str, int, int]]] = []
    for pool in ledger.numbered:
        calls.append(read(morpho, "market(bytes32)", pool.id))
        held.append(
            [
                (f"market 0x{pool.id.hex()} {each}", place, getattr(pool.totals, each))
                for each, place in WORDS.items()
                # without a rate model no event tells when it was touched, and nothing rests on it
                if each != "updated_at" or pool.terms.irm != ZERO_ADDRESS
            ]
        )
        if pool.adaptive:
            calls.append(read(pool.terms.irm, "rateAtTarget(bytes32)", pool.id))
            name = f"market 0x{pool.id.hex()} rate at target"
            held.append([(name, 0, pool.totals.rate_at_target)])
    for key in chosen(ledger, sample, seed):
        pool = ledger.numbered[number_of(key)]
        collateral, shares = unpack(ledger.accounts.get(key))
        who = borrower_of(key)
        calls.append(read(morpho, "position(bytes32,address)", pool.id, who))
        name = f"borrower 0x{who.hex()} of market 0x{pool.id.hex()}"
        held.append([(f"{name} collateral", 2, collateral), (f"{name} borrow shares", 1, shares)])
        for each in pool.early:
            contract = each.terms.contract
            calls.append(read(morpho, "isAuthorized(address,address)", who, contract))
            given = int(who in each.authorisers)
            held.append([(f"{name} authorises 0x{contract.hex()}", 0, given)])
    data = answers(await reader.multicall(calls, head.hash), f"audit of {ledger.market}")
    return [
        Drift(subject, value, uint(answer, word))
        for answer, values in zip(data, held, strict=True)
        for subject, word, value in values
        if uint(answer, word) != value
    ]


def chosen(ledger: Ledger, sample: int, seed: int) -> Sequence[Address]:
    """Return random keys, looking at no more shards than that takes."""
    accounts, draw = ledger.accounts, random.Random(seed)
    if sample >= len(accounts):
        return sorted(accounts)
    picked: dict[Address, None] = {}
    while len(picked) < sample:
        for number in draw.sample(range(SHARDS), SHARDS):
            left = sorted(accounts.shard(number).keys() - picked.keys())
            if left and len(picked) < sample:
                picked[draw.choice(left)] = None
    return list(picked)
