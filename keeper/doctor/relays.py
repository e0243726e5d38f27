"""Checks of a chain's relays: a signed question that changes nothing."""

from collections.abc import Sequence

from eth_utils.address import to_checksum_address

from keeper.config import Chain, RelayTable
from keeper.doctor.check import Finding, State
from keeper.errors import ConfigError, RpcError, TransientError
from keeper.relays import identity_of, open_wire
from keeper.units import Address

_REFUSED = frozenset({401, 402, 403})
_NOBODY = frozenset({301, 302, 307, 308, 404, 405, 410})


async def check_relay(
    name: str, alias: str, table: RelayTable, chain: Chain, wallets: Sequence[Address]
) -> Finding:
    """Ask a relay for its chain id; most know no such method, and saying so is an answer."""
    where = f"chains.{name}.relays.{alias}"
    identity = identity_of(name, alias, table)
    if identity is not None and identity.address in wallets:
        raise ConfigError(
            f"{where}.identity is the key of the wallet",
            "make another key for it: it holds no money",
        )
    wire = open_wire(name, alias, table)
    try:
        told = await wire.call("eth_chainId", [])
    except RpcError as error:
        if error.code in _REFUSED or "signature" in error.message.lower():
            raise ConfigError(
                f"relay {alias} refuses who we are: {error.message}",
                f"check {where}.identity and {where}.authorization",
            ) from None
        if error.code in _NOBODY:
            raise ConfigError(f"relay {alias}: {error.message}", f"check {where}.url") from None
        told = None
    except TransientError as error:
        return State.WARN, f"relay {alias}: {error}", f"check {where}.url, and that it runs"
    finally:
        await wire.close()
    if isinstance(told, str) and told.lower() != hex(chain.chain_id):
        raise ConfigError(
            f"relay {alias} serves chain id {told}, the configuration says {chain.chain_id}",
            f"check {where}.url",
        )
    who = "" if identity is None else f", we are {to_checksum_address(identity.address)}"
    return State.OK, f"{table.kind}, answers{who}", ""
