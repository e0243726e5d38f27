"""One page of a snapshot as it is stored: packed when that pays, and signed for its place."""

import zlib
from dataclasses import dataclass
from hashlib import blake2b

RAW, ZLIB = "raw", "zlib"
_SAMPLE = 1 << 16
_PAYS = 0.75
"""Share of its size a page has to shrink to: balances and addresses hardly do."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of one source, `data` as stored."""

    source: str
    number: int
    encoding: str
    data: bytes
    checksum: bytes


def pack(source: str, number: int, content: bytes) -> Page:
    """Return a page ready to be stored."""
    encoding, data = RAW, content
    sample = content[:_SAMPLE]
    if len(zlib.compress(sample, 1)) < _PAYS * len(sample):
        encoding, data = ZLIB, zlib.compress(content, 1)
    return Page(source, number, encoding, data, _checksum(source, number, encoding, data))


def unpack(page: Page) -> bytes:
    """Return a page's content; raise ValueError when it is not what was stored."""
    if _checksum(page.source, page.number, page.encoding, page.data) != page.checksum:
        raise ValueError(f"page {page.number} of {page.source} is damaged")
    return zlib.decompress(page.data) if page.encoding == ZLIB else page.data


def _checksum(source: str, number: int, encoding: str, data: bytes) -> bytes:
    digest = blake2b(f"{source}\0{number}\0{encoding}\0".encode(), digest_size=16)
    digest.update(data)
    return digest.digest()


def whole_checksum(about: str, pages: list[tuple[str, int, bytes]]) -> bytes:
    """Return the checksum of a snapshot: what it says of itself, and each page's by place."""
    digest = blake2b(about.encode(), digest_size=16)
    for source, number, checksum in sorted(pages):
        digest.update(f"\0{source}\0{number}\0".encode() + checksum)
    return digest.digest()
