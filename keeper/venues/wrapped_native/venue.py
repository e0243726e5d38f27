"""Wrapping and unwrapping the native coin as a venue, for pools that trade the coin itself."""

from collections.abc import Iterable, Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from keeper.address import EvmAddress
from keeper.errors import ConfigError, InvariantError
from keeper.ports import Pages, Reader
from keeper.types import (
    AllowedCall,
    Call,
    Drift,
    FlashSource,
    Head,
    Hop,
    Log,
    NativeUnwrap,
    NativeWrap,
    Undo,
    Watch,
)
from keeper.units import ZERO_ADDRESS, Address, to_hex

TOTAL_SUPPLY = bytes.fromhex("18160ddd")


class Trials:
    """Wrapping tried; nothing runs out."""

    def quote(self, _hop: Hop, amount_in: int) -> int:
        """Return the same amount."""
        return max(amount_in, 0)

    def apply(self, _hop: Hop, amount_in: int) -> int:
        """Return the same amount."""
        return max(amount_in, 0)


class WrappedNative:
    """Both ways between the native coin, written as the zero address, and its wrapped token.

    There is nothing to follow: a wrapped coin is a coin, whatever happens.
    """

    class Config(BaseModel):
        """The wrapped token: the one the liquidator contract was deployed with."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        wrapped: EvmAddress

    @classmethod
    def configured(
        cls, name: str, config: Config, _tokens: Iterable[Address], _contract: Address
    ) -> "WrappedNative":
        """Return the venue that the settings describe."""
        return cls(name, config.wrapped)

    def __init__(self, name: str, wrapped: Address) -> None:
        self.name = name
        self.wrapped = wrapped

    def watch(self) -> Watch:
        """Return nothing."""
        return Watch(frozenset(), frozenset())

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """See that the wrapped token is one; raise `ConfigError` when it is not."""
        (supply,) = await reader.multicall([Call(self.wrapped, TOTAL_SUPPLY)], head.hash)
        if not supply.ok or len(supply.data) != 32:
            raise ConfigError(
                f"{to_hex(self.wrapped)} is no token: it does not say its supply",
                "wrapped is the wrapped native coin: WETH on Ethereum",
            )

    def snapshot(self) -> Pages:
        """Freeze whose token it is."""

        def pages() -> Iterator[bytes]:
            yield self.wrapped

        return pages

    def restore(self, pages: Iterable[bytes]) -> None:
        """Raise `InvariantError` when a snapshot was of another token."""
        if b"".join(pages) != self.wrapped:
            raise InvariantError("wrapped_native", "the snapshot is of another token")

    def fold(self, _log: Log) -> Undo | None:
        """Return None: no log changes anything."""
        return None

    def hops(self, token_in: Address) -> Sequence[Hop]:
        """Return the way to the other form."""
        forms = (self.wrapped, ZERO_ADDRESS)
        if token_in not in forms:
            return ()
        return (Hop(self.name, self.wrapped, token_in, forms[token_in == self.wrapped]),)

    def execution(self, hop: Hop) -> NativeWrap | NativeUnwrap:
        """Return that the contract wraps, or unwraps."""
        return NativeWrap() if hop.token_in == ZERO_ADDRESS else NativeUnwrap()

    def permissions(self) -> Sequence[AllowedCall]:
        """Return nothing: the contract wraps by itself."""
        return ()

    def begin(self) -> Trials:
        """Return trials; there is no state."""
        return Trials()

    def flash_sources(self, _token: Address) -> Sequence[FlashSource]:
        """Return nothing."""
        return ()

    async def audit(self, _reader: Reader, _head: Head, _sample: int, _seed: int) -> list[Drift]:
        """Return nothing: there is no state to compare."""
        return []
