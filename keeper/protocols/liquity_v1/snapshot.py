"""A ledger as pages of bytes, and back: a JSON header, then troves as JSON, some thousands a page."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

from keeper.chain.codes import Codes, decoded
from keeper.errors import InvariantError
from keeper.protocols.liquity_v1.ledger import Ledger, System, Trove
from keeper.protocols.liquity_v1.terms import Deployment
from keeper.units import Address

FORMAT = 2
PAGE = 4_000
"""Troves in one page."""
ADDRESS = 20


def header(ledger: Ledger, deployment: Deployment, known: Codes) -> dict[str, Any]:
    """Return everything but the troves, the code that is known with it."""
    return {
        "format": FORMAT,
        "market": ledger.market,
        "contracts": _contracts(deployment),
        "codes": {contract.hex(): code.hex() for contract, code in known.items()},
        "stopped": ledger.stopped,
        "troves": len(ledger.troves),
        "system": asdict(ledger.system),
    }


def pages(head: dict[str, Any], troves: Mapping[Address, Trove]) -> Iterator[bytes]:
    """Encode a frozen ledger."""
    yield json.dumps(head).encode()
    rest = iter(troves.items())
    while page := list(islice(rest, PAGE)):
        yield json.dumps([[owner.hex(), *trove] for owner, trove in page]).encode()


def restored(source: Iterable[bytes], market: str, deployment: Deployment) -> tuple[Ledger, Codes]:
    """Return a snapshot's ledger and the code that was known with it.

    Raises `InvariantError` when it cannot be read or does not add up.
    """
    try:
        return _ledger(iter(source), market, deployment)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise InvariantError(market, f"the snapshot cannot be read: {error}") from error


def codes(page: bytes, deployment: Deployment) -> Codes:
    """Return by what code a snapshot's header knows a system, nothing when it is not of that one."""
    try:
        head = json.loads(page)
        return decoded(head["codes"]) if head["contracts"] == _contracts(deployment) else {}
    except (AttributeError, LookupError, TypeError, ValueError):
        return {}


def _ledger(rest: Iterator[bytes], market: str, deployment: Deployment) -> tuple[Ledger, Codes]:
    head = json.loads(next(rest, b""))
    if head["format"] != FORMAT:
        raise ValueError(f"its format is {head['format']}")
    if (head["market"], head["contracts"]) != (market, _contracts(deployment)):
        raise ValueError("it is of other contracts")
    system = {name: _count(value) for name, value in head["system"].items()}
    ledger = Ledger(market, system=System(**system), stopped=str(head["stopped"]))
    for page in rest:
        for owner, *values in json.loads(page):
            ledger.troves[_address(owner)] = Trove(*map(_count, values))
    if len(ledger.troves) != head["troves"]:
        raise ValueError("it has not as many troves as it says")
    if sum(trove.stake for trove in ledger.troves.values()) != ledger.system.stakes:
        raise ValueError("the stakes do not add up")
    last = max((trove.since for trove in ledger.troves.values()), default=0)
    ledger.look_ahead(max(last, ledger.system.accrued_at))
    return ledger, decoded(head["codes"])


def _contracts(deployment: Deployment) -> dict[str, str]:
    found = {name: value.hex() for name, value in asdict(deployment.contracts).items()}
    return found | {"coin": deployment.coin.address.hex()}


def _address(text: str) -> Address:
    address = bytes.fromhex(text)
    if len(address) != ADDRESS:
        raise ValueError("an address has another length")
    return Address(address)


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no amount")
    return value
