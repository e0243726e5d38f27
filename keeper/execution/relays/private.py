"""Private transactions: a relay that offers one transaction to builders, block after block."""

from collections.abc import Sequence

from keeper.errors import TransientError
from keeper.execution.relays.wire import RelayWire
from keeper.types import Signed
from keeper.units import to_hex


class PrivateTransactions:
    """Speak `eth_sendPrivateTransaction`, or its raw form for endpoints that know only that.

    The raw form names no last block: a relay tries it for as many as it likes.
    """

    def __init__(self, wire: RelayWire, *, raw: bool = False) -> None:
        self.name = wire.name
        self._wire = wire
        self._raw = raw

    async def send(self, signed: Signed, before: Sequence[Signed], first: int, last: int) -> None:
        """Submit the bytes to be tried up to block `last`; those before it were submitted by themselves.

        An answer that names another transaction says nothing: `TransientError`.
        """
        del before, first
        tx = to_hex(signed.raw)
        if self._raw:
            named = await self._wire.call("eth_sendPrivateRawTransaction", [tx])
        else:
            wish = {"tx": tx, "maxBlockNumber": hex(last), "preferences": {"fast": True}}
            named = await self._wire.call("eth_sendPrivateTransaction", [wish])
        if not isinstance(named, str) or named.lower() != to_hex(signed.hash):
            raise TransientError("it names another transaction than it was given")

    async def cancel(self, signed: Signed, first: int, last: int) -> None:
        """Ask for the transaction to be forgotten; no relay promises it."""
        del first, last
        await self._wire.call("eth_cancelPrivateTransaction", [{"txHash": to_hex(signed.hash)}])

    async def close(self) -> None:
        """Let go of the connections."""
        await self._wire.close()
