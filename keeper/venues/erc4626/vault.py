"""One vault as the venue holds it: what it is, what is read of it, and redemptions tried on it."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keeper.chain.words import is_word
from keeper.errors import ConfigError, InvariantError
from keeper.ports import Reader
from keeper.types import Call, CallResult, Head, Hop
from keeper.units import Address, to_hex
from keeper.venues.erc4626.rates import (
    Held,
    Savings,
    State,
    after,
    grown_down,
    redeem_down,
)

ASSET, DECIMALS = bytes.fromhex("38d52e0f"), bytes.fromhex("313ce567")
TOTAL_ASSETS, TOTAL_SUPPLY = bytes.fromhex("01e1d114"), bytes.fromhex("18160ddd")
BALANCE_OF, PREVIEW_REDEEM = bytes.fromhex("70a08231"), bytes.fromhex("4cdad506")
POT, CHI, RHO = bytes.fromhex("4ba2363a"), bytes.fromhex("c92aecc4"), bytes.fromhex("20aba08b")
RATES = bytes.fromhex("487bf082"), bytes.fromhex("03607ceb")
"""The rate per second: `dsr` of a pot, `ssr` of a token that is its own."""


_PROBE_BITS = 235
"""Of the product of shares and assets a vault is asked about: so many that its way of rounding
shows, few enough that it computes them."""


@dataclass(slots=True)
class Vault:
    """A vault and what it pays in; `source` keeps its savings rate, where it has one.

    `probe` are the shares whose worth it is asked for, `extra` what it may count more of them.
    `state` is None where its rate at the block to come is not known: nothing is redeemed then.
    """

    address: Address
    asset: Address
    probe: int
    extra: int
    source: Address | None = None
    state: State | None = None


async def load_vault(reader: Reader, head: Head, address: Address) -> Vault:
    """Return a vault as of this head, rounding as it rounds itself.

    Raises `ConfigError` for what is no such vault, or has a rate that cannot be known beforehand.
    """
    asset, pot, chi, whole = await reader.multicall(
        [Call(address, each) for each in (ASSET, POT, CHI, DECIMALS)], head.hash
    )
    if not (is_word(asset) and is_word(whole)):
        raise ConfigError(
            f"{to_hex(address)} does not answer as an ERC-4626 vault does",
            "check the vault's address and the chain",
        )
    paid, decimals = Address(asset.data[12:]), int.from_bytes(whole.data)
    (unit,) = await reader.multicall([Call(paid, DECIMALS)], head.hash)
    if not is_word(unit) or not 0 <= decimals - int.from_bytes(unit.data) <= 36:
        raise ConfigError(
            f"token {to_hex(paid)} does not say how many decimals it has",
            f"leave out the vault {to_hex(address)}",
        )
    source = Address(pot.data[12:]) if is_word(pot) else address if is_word(chi) else None
    vault = Vault(address, paid, 1, 10 ** (decimals - int.from_bytes(unit.data)), source)
    told = await reader.multicall(state_calls(vault), head.hash)
    bits = max(int.from_bytes(each.data[:32]).bit_length() for each in told[1:3])
    vault.probe = 1 << max(_PROBE_BITS - bits, 0)
    answers = await reader.multicall(state_calls(vault), head.hash)
    vault.state = read_state(vault, answers, head.timestamp, head.timestamp)
    if vault.state is not None:
        return vault
    raise ConfigError(
        f"vault {to_hex(address)} has a rate that is not known before the block",
        "leave it out: only what holds its own assets, or pays a savings rate, is exact",
    )


def state_calls(vault: Vault) -> list[Call]:
    """Return the reads that tell a vault's rate, and its own answer to hold it against."""
    preview = Call(vault.address, PREVIEW_REDEEM + vault.probe.to_bytes(32))
    if vault.source is not None:
        return [preview, *(Call(vault.source, each) for each in (CHI, RHO, *RATES))]
    holds = BALANCE_OF + vault.address.rjust(32, b"\0")
    return [
        preview,
        Call(vault.address, TOTAL_ASSETS),
        Call(vault.address, TOTAL_SUPPLY),
        Call(vault.asset, holds),
    ]


def read_state(
    vault: Vault, results: Sequence[CallResult], now: int, timestamp: int
) -> State | None:
    """Return the state for a block of this time, from what was answered in one of the time `now`.

    None unless the same reckoning gives at `now` what the vault itself says.
    """
    told = [int.from_bytes(each.data) if is_word(each) else None for each in results]
    preview, first, second, *rest = told
    if preview is None or first is None or second is None:
        return None
    if vault.source is not None:
        rate = rest[0] if rest[0] is not None else rest[1]
        if rate is None:
            return None
        here = Savings(grown_down(first, rate, now - second))
        later = Savings(grown_down(first, rate, timestamp - second))
        return later if redeem_down(here, vault.probe) == preview else None
    if rest != [first]:
        # Its assets are not what it holds of them: something else moves its rate.
        return None
    fits = [
        held
        for extra in (vault.extra, 0)
        if _previewed(held := Held(first, second, extra), vault.probe) == preview
    ]
    # Where the probe does not tell them apart, a redemption differs by one unit: the lesser holds.
    return min(fits, key=lambda held: _previewed(held, vault.probe << _PROBE_BITS), default=None)


def _previewed(state: Held, shares: int) -> int:
    """Return what the vault says, whether or not it has so many shares."""
    if not state.supply and not state.extra:
        return shares
    return shares * (state.assets + (state.extra > 0)) // (state.supply + state.extra)


class Trials:
    """Redemptions tried one after another; the vaults themselves are not touched."""

    def __init__(self, vaults: Mapping[Address, Vault]) -> None:
        self._vaults = vaults
        self._moved: dict[Address, State] = {}

    def quote(self, hop: Hop, amount_in: int) -> int:
        """Return the exact output of a redemption on the state so far; 0 when it is refused."""
        state = self._moved.get(hop.pool, self._vaults[hop.pool].state)
        return 0 if state is None else redeem_down(state, amount_in)

    def apply(self, hop: Hop, amount_in: int) -> int:
        """Redeem on the scratch state and return the output; one that is refused moves nothing."""
        state = self._moved.get(hop.pool, self._vaults[hop.pool].state)
        out = 0 if state is None else redeem_down(state, amount_in)
        if state is not None and out:
            self._moved[hop.pool] = after(state, amount_in, out)
        return out


Frozen = tuple[object, ...]


def freeze(vault: Vault) -> Frozen:
    """Return what does not change of a vault; its rate is read at each head."""
    source = None if vault.source is None else vault.source.hex()
    return vault.address.hex(), vault.asset.hex(), vault.probe, vault.extra, source


def encode(first: bytes, vaults: Iterable[Frozen]) -> Iterator[bytes]:
    """Yield the pages: what identifies the venue, then its vaults; there are few of them."""
    yield first
    yield json.dumps(list(vaults)).encode()


def decode(first: bytes, pages: Iterable[bytes]) -> list[Vault]:
    """Return a snapshot's vaults; raise `InvariantError` when it is not one of this venue."""
    unread = iter(pages)
    if next(unread, b"") != first:
        raise InvariantError("erc4626", "the snapshot is of other vaults or another format")
    try:
        return [_thaw(*each) for each in json.loads(b"".join(unread))]
    except (ValueError, TypeError) as error:
        raise InvariantError("erc4626", f"a page cannot be read ({error})") from error


def _thaw(address: str, asset: str, probe: int, extra: int, source: str | None) -> Vault:
    kept = None if source is None else Address(bytes.fromhex(source))
    return Vault(Address(bytes.fromhex(address)), Address(bytes.fromhex(asset)), probe, extra, kept)
