"""Open the relays of a chain: the wire to each, what it speaks, and who we are to it."""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import assert_never

from eth_utils.address import to_checksum_address

from keeper.config import Chain, RelayTable, Settings
from keeper.errors import ConfigError
from keeper.execution.relays.bundles import Bundles
from keeper.execution.relays.flow import PrivateFlow, Route
from keeper.execution.relays.identity import Identity
from keeper.execution.relays.private import PrivateTransactions
from keeper.execution.relays.scores import Scores
from keeper.execution.relays.shared import SharedBundles
from keeper.execution.relays.wire import RelayWire
from keeper.ports import Relay


def open_relays(
    name: str,
    chain: Chain,
    stack: AsyncExitStack,
    handed: Callable[[str, str, float], None] | None = None,
    ended: Callable[[str, str], None] | None = None,
) -> PrivateFlow | None:
    """Return what hands transactions to a chain's relays, closed with the stack; None without any."""
    if not chain.relays:
        return None
    wires = {alias: open_wire(name, alias, table) for alias, table in chain.relays.items()}
    routes = [
        Route(
            _speaker(table, wires[alias]),
            table.blocks,
            backruns=table.kind == "shared-bundle",
            bundled=table.kind in {"bundle", "shared-bundle"},
            warm=wires[alias].warm,
        )
        for alias, table in chain.relays.items()
    ]
    flow = PrivateFlow(routes, Scores(chain.relays, handed, ended), chain.public_after)
    stack.push_async_callback(flow.close)
    return flow


def open_wire(name: str, alias: str, table: RelayTable) -> RelayWire:
    """Return one relay's wire; nothing is sent yet."""
    secret = table.authorization
    return RelayWire(
        alias,
        table.url.get_secret_value(),
        identity_of(name, alias, table),
        None if secret is None else secret.get_secret_value(),
    )


def identity_of(name: str, alias: str, table: RelayTable) -> Identity | None:
    """Return who we are to a relay, None for nobody; raise `ConfigError` when it is no key."""
    if table.identity is None:
        return None
    try:
        return Identity(bytes.fromhex(table.identity.get_secret_value().removeprefix("0x")))
    except ValueError:
        raise ConfigError(
            f"chains.{name}.relays.{alias}.identity is no private key", "it is zero or too large"
        ) from None


def refuse_wallets(settings: Settings, wallets: Mapping[str, str]) -> None:
    """Raise `ConfigError` when a relay's identity is a wallet's key.

    `wallets` are checksummed, each by its table: `ethereum.wallets[0]`.
    """
    for name, chain in settings.chains.items():
        for alias, table in chain.relays.items():
            identity = identity_of(name, alias, table)
            if identity is None:
                continue
            address = to_checksum_address(identity.address)
            for owner, wallet in wallets.items():
                if wallet == address:
                    raise ConfigError(
                        f"chains.{name}.relays.{alias}.identity is the key of chains.{owner}",
                        "make another key for it: it holds no money",
                    )


def _speaker(table: RelayTable, wire: RelayWire) -> Relay:
    match table.kind:
        case "bundle":
            return Bundles(wire)
        case "shared-bundle":
            return SharedBundles(wire, table.hints, table.builders)
        case "private-transaction":
            return PrivateTransactions(wire)
        case "private-raw-transaction":
            return PrivateTransactions(wire, raw=True)
        case _:
            assert_never(table.kind)
