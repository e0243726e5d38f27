"""The header's log bloom: which watched addresses and topics cannot be in a block."""

from functools import lru_cache

from eth_hash.auto import keccak

from keeper.types import Watch


@lru_cache(maxsize=1 << 17)
def mask(value: bytes) -> int:
    """Return the three bits a value sets in a 2048-bit bloom (Yellow Paper, M3:2048)."""
    digest = keccak(value)
    bits = 0
    for start in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[start : start + 2], "big") & 2047)
    return bits


def narrow(watch: Watch, bloom: bytes) -> Watch:
    """Keep only what the bloom admits; a watch without addresses or topics means no log matches.

    A header without a bloom excludes nothing.
    """
    if not bloom:
        return watch
    bits = int.from_bytes(bloom, "big")
    topics = frozenset(topic for topic in watch.topics if bits & (m := mask(topic)) == m)
    if not topics:
        return Watch(frozenset(), frozenset())
    addresses = frozenset(each for each in watch.addresses if bits & (m := mask(each)) == m)
    return Watch(addresses, topics)


def matches_nothing(watch: Watch) -> bool:
    """Tell whether no log can satisfy a watch."""
    return not watch.addresses or not watch.topics


def union(one: Watch, other: Watch) -> Watch:
    """Watch everything either watches."""
    if other.addresses <= one.addresses and other.topics <= one.topics:
        return one
    return Watch(one.addresses | other.addresses, one.topics | other.topics)
