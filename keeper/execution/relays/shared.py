"""Bundles by hash: our transaction right behind one that is pending and not ours."""

from collections.abc import Sequence

from keeper.execution.relays.wire import RelayWire
from keeper.types import Signed
from keeper.units import to_hex

VERSION = "v0.1"


class SharedBundles:
    """Speak `mev_sendBundle` to a matchmaker, which knows pending transactions by their hash.

    A plan's `after` goes in front of it: the pair is included whole and in this order, or not at all.
    `hints` are what others may see of ours, nothing when empty; `builders` are who gets it beside the
    relay's own.
    """

    def __init__(
        self, wire: RelayWire, hints: Sequence[str] = (), builders: Sequence[str] = ()
    ) -> None:
        self.name = wire.name
        self._wire = wire
        self._privacy: dict[str, list[str]] = {"hints": list(hints)}
        if builders:
            self._privacy["builders"] = list(builders)

    async def send(self, signed: Signed, before: Sequence[Signed], first: int, last: int) -> None:
        """Submit once for all blocks of a range; those on earlier nonces stand at the front."""
        body: list[dict[str, object]] = [_own(each) for each in before]
        if signed.plan.after and not signed.cancels:
            body.append({"hash": to_hex(signed.plan.after)})
        body.append(_own(signed))
        wish = {
            "version": VERSION,
            "inclusion": {"block": hex(first), "maxBlock": hex(last)},
            "body": body,
            "privacy": self._privacy,
        }
        await self._wire.call("mev_sendBundle", [wish])

    async def cancel(self, signed: Signed, first: int, last: int) -> None:
        """Do nothing: the method knows no way back but its last block, or the nonce used otherwise."""
        del signed, first, last

    async def close(self) -> None:
        """Let go of the connections."""
        await self._wire.close()


def _own(signed: Signed) -> dict[str, object]:
    return {"tx": to_hex(signed.raw), "canRevert": False}
