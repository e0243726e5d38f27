"""Auctions and urns as pages, and back."""

from collections.abc import Iterable, Iterator
from itertools import islice

import orjson

from keeper.errors import InvariantError
from keeper.ports import Pages
from keeper.protocols.maker_clip.ledger import Kind, Ledger, Sale, Urn
from keeper.units import Address

URNS = 4_096
"""Urns of a page."""


def pages(ledger: Ledger) -> Pages:
    """Freeze a ledger and return what encodes it, one line a page."""
    sales, urns, kind = dict(ledger.sales), dict(ledger.urns), ledger.kind
    of = [ledger.clip.hex(), ledger.vat.hex(), ledger.ilk.hex()]

    def encoded() -> Iterator[bytes]:
        figures = [str(each) for each in (kind.rate, kind.spot, kind.dust)]
        running = {str(number): [str(each) for each in sale] for number, sale in sales.items()}
        yield orjson.dumps({"of": of, "kind": figures, "sales": running}) + b"\n"
        waiting = iter(urns.items())
        while page := list(islice(waiting, URNS)):
            rows = [(owner.hex(), str(urn.ink), str(urn.art)) for owner, urn in page]
            yield orjson.dumps(rows) + b"\n"

    return encoded


def restored(encoded: Iterable[bytes], empty: Ledger) -> Ledger:
    """Return a snapshot's ledger; raise `InvariantError` when it is not of `empty`'s Clipper."""
    try:
        head, *rest = (orjson.loads(line) for line in b"".join(encoded).splitlines())
        sales = {
            int(number): Sale(*(int(each) for each in sale))
            for number, sale in head["sales"].items()
        }
        rate, spot, dust = (int(each) for each in head["kind"])
        urns = {
            Address(bytes.fromhex(owner)): Urn(int(ink), int(art))
            for page in rest
            for owner, ink, art in page
        }
        of = head["of"]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InvariantError(empty.market, f"the snapshot cannot be read: {error}") from error
    if of != [empty.clip.hex(), empty.vat.hex(), empty.ilk.hex()]:
        raise InvariantError(empty.market, "the snapshot is of another Clipper")
    return Ledger(
        empty.market,
        empty.clip,
        empty.vat,
        empty.ilk,
        sales,
        urns,
        Kind(rate, spot, dust),
    )
