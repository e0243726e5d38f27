"""A ledger as pages of bytes: a JSON header, then columns of holders, some thousands to a page.

A page of holders is its column (u8), its cToken's id (u16), how many there are (u32), and of each the
address and one or two numbers of 32 bytes.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from keeper.chain.codes import Codes, decoded
from keeper.errors import InvariantError
from keeper.protocols.compound_v2.bootstrap import Deployment
from keeper.protocols.compound_v2.ctoken import CToken, Terms
from keeper.protocols.compound_v2.ledger import Ledger, Pool
from keeper.protocols.compound_v2.vai import Minted, Unread, Vai
from keeper.types import Token
from keeper.units import Address, Wad

FORMAT = 2
PAGE = 16_384
FIRST = struct.Struct("<BHI")
BALANCES, DEBTS, ENTERED, CHOSEN = range(4)
NUMBERS = ("index", "borrows", "accrued_at", "reserve_factor", "seize_share", "paused")
PLAIN = ("close_factor", "redeem_fee", "treasury_share", "minimum_collateral")


def pages(ledger: Ledger, deployment: Deployment, known: Codes) -> Iterator[bytes]:
    """Encode a frozen ledger, and the code it is known by."""
    yield orjson.dumps(
        {
            "format": FORMAT,
            "market": ledger.market,
            "contracts": contracts(deployment),
            "codes": {contract.hex(): code.hex() for contract, code in known.items()},
            "by_seconds": ledger.by_seconds,
            "has_thresholds": ledger.has_thresholds,
            "tells_incentives": ledger.tells_incentives,
            "is_paused": ledger.is_paused,
            "stopped": ledger.stopped,
            "plain": {name: str(getattr(ledger, name)) for name in PLAIN},
            "pools": {
                str(number): [about.is_active, about.falls_back]
                for number, about in ledger.pools.items()
            },
            "restricted": sorted(each.hex() for each in ledger.restricted),
            "token": _vai_out(ledger.vai),
            "minters": {who.hex(): _minter_out(debt) for who, debt in ledger.minters.items()},
            "ctokens": [_ctoken_out(each) for each in ledger.ctokens],
            "borrowers": len(ledger.owing),
        }
    )
    single = [(BALANCES, each.id, each.balances) for each in ledger.ctokens]
    single += [(ENTERED, 0, ledger.entered), (CHOSEN, 0, ledger.chosen)]
    for kind, number, column in single:
        entries = ((holder, (value,)) for holder, value in column.items())
        yield from _pages(kind, number, entries)
    for each in ledger.ctokens:
        yield from _pages(DEBTS, each.id, each.debts.items())


def contracts(deployment: Deployment) -> dict[str, Any]:
    """Return what a snapshot has to be of."""
    return {
        "comptroller": deployment.comptroller.hex(),
        "liquidator": deployment.liquidator.hex(),
        "vai": deployment.vai.hex(),
        "assets": [[a.ctoken.hex(), a.underlying.hex(), a.is_native] for a in deployment.assets],
    }


def read(
    source: Iterable[bytes], market: str, deployment: Deployment
) -> tuple[Ledger, dict[Address, bytes]]:
    """Return the ledger of a snapshot, and the code it was known by.

    Raise `InvariantError` for pages that cannot be read, are not of this market or do not add up.
    """
    rest = iter(source)
    try:
        about = orjson.loads(next(rest, b""))
        _check_origin(about, market, deployment)
        ledger = _ledger(market, deployment, about)
        for page in rest:
            _take(ledger, page)
        _check(ledger, about)
        known = decoded(about["codes"])
    except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
        raise InvariantError(market, f"the snapshot cannot be read: {error}") from error
    return ledger, known


def codes(page: bytes, comptroller: Address) -> dict[Address, bytes]:
    """Return by what code a snapshot's header knows a market, nothing when it is not of that one."""
    try:
        about = orjson.loads(page)
        is_of_it = about["contracts"]["comptroller"] == comptroller.hex()
        return decoded(about["codes"]) if is_of_it else {}
    except (AttributeError, LookupError, TypeError, ValueError):
        return {}


def _check_origin(about: Mapping[str, Any], market: str, deployment: Deployment) -> None:
    if about["format"] != FORMAT:
        raise ValueError(f"its format is {about['format']}")
    if (about["market"], about["contracts"]) != (market, contracts(deployment)):
        raise ValueError("it is of other contracts")


def _pages(
    kind: int, number: int, entries: Iterable[tuple[Address, tuple[int, ...]]]
) -> Iterator[bytes]:
    rest = iter(entries)
    while portion := list(islice(rest, PAGE)):
        body = b"".join(
            holder + b"".join(value.to_bytes(32, "big") for value in values)
            for holder, values in portion
        )
        yield FIRST.pack(kind, number, len(portion)) + body


def _take(ledger: Ledger, page: bytes) -> None:
    kind, number, count = FIRST.unpack_from(page)
    width = 84 if kind == DEBTS else 52
    if len(page) != FIRST.size + count * width:
        raise ValueError("a page has another length")
    ctoken = ledger.ctokens[number]
    for at in range(FIRST.size, len(page), width):
        holder = Address(page[at : at + 20])
        value = int.from_bytes(page[at + 20 : at + 52], "big")
        if kind == BALANCES:
            ledger.set_balance(holder, ctoken, value)
        elif kind == DEBTS:
            since = int.from_bytes(page[at + 52 : at + 84], "big")
            ledger.set_debt(holder, ctoken, (value, since))
        elif kind in {ENTERED, CHOSEN}:
            (ledger.entered if kind == ENTERED else ledger.chosen)[holder] = value
        else:
            raise ValueError(f"it has a column {kind}")


def _check(ledger: Ledger, about: Mapping[str, Any]) -> None:
    if len(ledger.owing) != about["borrowers"]:
        raise ValueError("it has not as many borrowers as it says")
    for ctoken, told in zip(ledger.ctokens, about["ctokens"], strict=True):
        if _sums(ctoken) != told["sums"]:
            raise ValueError(f"holders of {ctoken.token.symbol} do not add up")


def _sums(ctoken: CToken) -> list[str]:
    owed = sum(principal for principal, _ in ctoken.debts.values())
    return [str(sum(ctoken.balances.values())), str(owed)]


def _minter_out(debt: Minted | Unread) -> list[str]:
    if isinstance(debt, Unread):
        return []
    return [str(debt.amount), str(debt.past), str(debt.since)]


def _vai_out(vai: Vai | None) -> list[Any]:
    return [] if vai is None else [vai.token.address.hex(), vai.token.symbol, vai.token.decimals]


def _vai_in(deployment: Deployment, told: Sequence[Any]) -> Vai | None:
    if not told:
        return None
    token = Token(Address(bytes.fromhex(told[0])), str(told[1]), int(told[2]))
    return Vai(deployment.vai, token)


def _ctoken_out(ctoken: CToken) -> dict[str, Any]:
    return {
        "token": [ctoken.token.symbol, ctoken.token.decimals],
        "underlying": [ctoken.underlying.symbol, ctoken.underlying.decimals],
        "is_forced": ctoken.is_forced,
        "terms": {
            str(pool): [str(each.threshold), str(each.incentive)]
            for pool, each in ctoken.terms.items()
        },
        "sums": _sums(ctoken),
        **{name: str(getattr(ctoken, name)) for name in NUMBERS},
    }


def _ledger(market: str, deployment: Deployment, about: Mapping[str, Any]) -> Ledger:
    ledger = Ledger(
        market,
        by_seconds=bool(about["by_seconds"]),
        has_thresholds=bool(about["has_thresholds"]),
        tells_incentives=bool(about["tells_incentives"]),
        is_paused=bool(about["is_paused"]),
        liquidator=deployment.liquidator,
        stopped=str(about["stopped"]),
        restricted={Address(bytes.fromhex(each)) for each in about["restricted"]},
        vai=_vai_in(deployment, about["token"]),
        minters={
            Address(bytes.fromhex(who)): Minted(*map(int, debt)) if debt else Unread()
            for who, debt in about["minters"].items()
        },
        pools={int(n): Pool(*map(bool, each)) for n, each in about["pools"].items()},
    )
    for name in PLAIN:
        setattr(ledger, name, int(about["plain"][name]))
    for asset, entry in zip(deployment.assets, about["ctokens"], strict=True):
        ledger.list_ctoken(
            CToken(
                id=len(ledger.ctokens),
                token=Token(
                    asset.ctoken, str(entry["token"][0]), int(entry["token"][1]), asset.underlying
                ),
                underlying=Token(
                    asset.underlying, str(entry["underlying"][0]), int(entry["underlying"][1])
                ),
                is_native=asset.is_native,
                is_forced=bool(entry["is_forced"]),
                terms={
                    int(pool): Terms(*(Wad(int(each)) for each in terms))
                    for pool, terms in entry["terms"].items()
                },
                index=int(entry["index"]),
                borrows=int(entry["borrows"]),
                accrued_at=int(entry["accrued_at"]),
                reserve_factor=int(entry["reserve_factor"]),
                seize_share=int(entry["seize_share"]),
                paused=int(entry["paused"]),
            )
        )
    return ledger
