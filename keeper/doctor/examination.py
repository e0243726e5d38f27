"""Every check in order: the process first, then each chain from its endpoints upwards."""

import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from functools import partial

from eth_utils.address import to_checksum_address

from keeper.chain.endpoint import Endpoint
from keeper.chain.reader import ChainReader
from keeper.config import Chain, Loaded, Market, Venue
from keeper.doctor import contract, node, permissions, process, relays, wallet
from keeper.doctor.block_time import check_block_time
from keeper.doctor.channels import Try, check_channel
from keeper.doctor.check import Check, Finding, State, look, refuse
from keeper.doctor.feeds import examine_feeds
from keeper.errors import ConfigError
from keeper.plugins import build_venue, configure_market
from keeper.ports import LendingProtocol
from keeper.signers import Ask, open_signers
from keeper.types import AllowedCall, Head
from keeper.units import ZERO_ADDRESS, Bps

FAR = 1_000
"""Hundredths of a percent off the pools that are told of, where no breaker looks at them."""


async def examine(
    loaded: Loaded,
    *,
    chain: str | None = None,
    beside: bool = False,
    ask: Ask | None = None,
    attempt: Try | None = None,
    feeds: bool = False,
) -> AsyncGenerator[Check, None]:
    """Yield every finding as it is made; a chain nobody answers for ends with its first failure.

    `beside` a running keeper its port may be taken. `ask` is asked for passwords nothing else tells;
    with an `attempt` every channel is sent a message. With `feeds` prices are read, and pools.
    """
    settings = loaded.settings
    yield await look("", "config", partial(process.check_settings, loaded))
    yield await look("", "strategies", partial(process.check_strategies, loaded))
    yield await look("", "journal", partial(process.check_journal, settings))
    yield await look("", "control", partial(process.check_control, settings))
    yield await look("", "port", partial(process.check_port, settings.http, beside=beside))
    for channel, place in settings.notify.channels.items():
        yield await look("", f"channel {channel}", partial(check_channel, channel, place, attempt))
    for name, table in settings.chains.items():
        if chain in {None, name}:
            examined = _examine_chain(loaded, name, table, ask=ask, feeds=feeds)
            async with aclosing(examined) as found:
                async for check in found:
                    yield check


async def require(loaded: Loaded, ask: Ask | None = None) -> list[Check]:
    """Return the findings, or raise `ConfigError` for the first failure among them.

    Of several chains some may be unreachable now: they are tried again while the others run.
    """
    checks, unreached = [], []
    async with aclosing(examine(loaded, ask=ask)) as found:
        async for check in found:
            if check.name == "endpoints" and check.state is State.FAIL:
                unreached.append(check)
                continue
            refuse([check])
            checks.append(check)
    if len(unreached) == len(loaded.settings.chains):
        refuse(unreached)
    return checks


async def require_watching(loaded: Loaded, chain: str) -> list[Check]:
    """Do the same for what reading one chain needs: no wallet, contract, journal or port."""
    await process.check_settings(loaded)
    table = loaded.settings.chains[chain]
    return await _all_well(_examine_chain(loaded, chain, table, sends=False))


async def _all_well(found: AsyncGenerator[Check, None]) -> list[Check]:
    checks = []
    async with aclosing(found):  # a refusal leaves it early, with its connections open
        async for check in found:
            refuse([check])
            checks.append(check)
    return checks


async def _examine_chain(
    loaded: Loaded,
    name: str,
    chain: Chain,
    *,
    sends: bool = True,
    ask: Ask | None = None,
    feeds: bool = False,
) -> AsyncGenerator[Check, None]:
    async with AsyncExitStack() as stack:
        endpoints = await node.dial(chain, stack)
        answers = await node.ask_all(endpoints)
        found = await look(
            name, "endpoints", _plain(lambda: node.judge_endpoints(answers, chain.chain_id))
        )
        yield found
        reached = next(
            (
                (endpoint, answer.head)
                for endpoint, answer in zip(endpoints, answers, strict=True)
                if answer.head is not None
            ),
            None,
        )
        if found.state is State.FAIL or reached is None:
            return
        endpoint, head = reached
        reader = ChainReader(endpoint, chain.multicall)
        yield await look(
            name, "head", _plain(lambda: node.judge_head(head, time.time(), chain.block_time))
        )
        yield await look(
            name, "block_time", partial(check_block_time, reader, head, chain.block_time)
        )
        yield await look(name, "eth_simulateV1", partial(node.check_simulation, endpoint))
        multicall = await look(name, "multicall", partial(node.check_multicall, reader, chain))
        yield multicall
        if multicall.state is State.OK:
            for market, entry in chain.markets.items():
                yield await look(
                    name,
                    f"market {market}",
                    partial(_check_market, reader, name, market, entry, head),
                )
        for venue, place in chain.venues.items():
            yield await look(
                name, f"venue {venue}", partial(_check_venue, reader, name, venue, place)
            )
        if feeds and multicall.state is State.OK:
            own, settings = chain.deviation_bps, loaded.settings
            limit = Bps((settings.breakers.deviation_bps if own is None else own) or FAR)
            checks_of = examine_feeds(reader, name, chain, head, limit, settings.journal_file)
            async with aclosing(checks_of) as checks:
                async for check in checks:
                    yield check
        if sends:
            money = _examine_money(loaded, name, chain, endpoint, reader, ask)
            async with aclosing(money) as checks:
                async for check in checks:
                    yield check


async def _examine_money(
    loaded: Loaded,
    name: str,
    chain: Chain,
    endpoint: Endpoint,
    reader: ChainReader,
    ask: Ask | None,
) -> AsyncGenerator[Check, None]:
    live = loaded.settings.mode == "live"
    needed = State.FAIL if live else State.WARN
    if chain.contract is None:
        hint = f"`keeper contract deploy`, then set chains.{name}.contract"
        yield Check(name, "contract", needed, "no contract is configured", hint)
    else:
        yield await look(
            name,
            "contract",
            partial(contract.check_code, reader, chain.contract, chain.wrapped_native),
        )
    if not chain.lanes:
        hint = f"`keeper wallet new operator.json`, then name it in [chains.{name}.wallet]"
        yield Check(name, "wallet", needed, "no wallet is configured", hint)
        return
    try:
        async with AsyncExitStack() as keys:
            signers = await open_signers(chain.lanes, f"chains.{name}", os.environ, keys, ask)
    except ConfigError as error:
        yield Check(name, "wallet", State.FAIL, error.message, error.hint)
        return
    addresses = [signer.address for signer in signers]
    for number, (table, address) in enumerate(zip(chain.lanes.values(), addresses, strict=True)):
        which = f" {number}" if len(addresses) > 1 else ""
        yield await look(name, f"wallet{which}", partial(wallet.check_secrets, table, address))
        yield await look(name, f"account{which}", partial(wallet.check_account, reader, address))
        yield await look(
            name,
            f"funds{which}",
            partial(wallet.check_funds, endpoint, address, loaded.settings.limits, live=live),
        )
        if chain.contract is not None:
            yield await look(
                name,
                f"roles{which}",
                partial(contract.check_roles, reader, chain.contract, address),
            )
    if chain.contract is not None:
        yield await look(
            name,
            "permissions",
            partial(permissions.check_permissions, endpoint, chain, chain.contract),
        )
    for alias, relay in chain.relays.items():
        yield await look(
            name,
            f"relay {alias}",
            partial(relays.check_relay, name, alias, relay, chain, addresses),
        )


async def _check_market(
    reader: ChainReader, chain: str, name: str, market: Market, head: Head
) -> Finding:
    kind, options = configure_market(chain, name, market)
    found: LendingProtocol = await kind.discover(reader, name, options, head, market.first_block)
    targets = {p.target for p in found.permissions() if isinstance(p, AllowedCall)}
    return State.OK, " ".join([market.protocol, *map(to_checksum_address, sorted(targets))]), ""


async def _check_venue(reader: ChainReader, chain: str, name: str, venue: Venue) -> Finding:
    built = build_venue(chain, name, venue, (), ZERO_ADDRESS)
    addresses = set(built.watch().addresses)
    for permission in built.permissions():
        if isinstance(permission, AllowedCall):
            addresses |= {permission.target, permission.spender}
    for address in sorted(addresses):
        if not await reader.code(address):
            shown = to_checksum_address(address)
            raise ConfigError(f"{venue.venue} contract {shown} has no code", "check the address")
    return State.OK, " and ".join([venue.venue, *map(to_checksum_address, sorted(addresses))]), ""


def _plain(judge: Callable[[], Finding]) -> Callable[[], Awaitable[Finding]]:
    async def run() -> Finding:
        return judge()

    return run
