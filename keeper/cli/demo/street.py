"""Put the protocols of the story on the chain as an operator would: settings and permissions."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from difflib import get_close_matches
from pathlib import Path

from keeper.config import Settings, load
from keeper.devnet import Devnet
from keeper.devnet.chain import Transaction
from keeper.devnet.lending import LENDING, deploy_lending
from keeper.devnet.lending.street import Street
from keeper.devnet.operator import CHAIN_NAME, Operator, write_settings
from keeper.devnet.toolchain import Progress
from keeper.errors import ConfigError

ALL = "all"
LARGEST_GAS = "limits.gas_ether_per_day=50"
"""A crowd of thousands takes more gas in a day than most operators would let it."""


def chosen(text: str) -> tuple[str, ...]:
    """Return the protocols that a comma-separated list names, in the order they are known in.

    Raises `ConfigError` for an unknown one, and for none.
    """
    named = {name.strip() for name in text.split(",")} - {""}
    if ALL in named:
        return tuple(LENDING)
    known = ", ".join(LENDING)
    for name in sorted(named - LENDING.keys()):
        close = get_close_matches(name, LENDING, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {known}, {ALL}"
        raise ConfigError(f"--protocols: the demo plays no protocol named {name!r}", hint)
    if not named:
        raise ConfigError("--protocols names none", f"known here: {known}, {ALL}")
    return tuple(name for name in LENDING if name in named)


def build(net: Devnet, operator: Operator, names: Sequence[str], progress: Progress) -> Street:
    """Return the protocols, deployed and without borrowers."""
    return Street(net, deploy_lending(net, operator, names, progress))


def settle_in(street: Street, operator: Operator, home: Path, extra: str) -> tuple[Path, Settings]:
    """Write the settings and have the owner allow what they need; return both."""
    net = street.net
    tables = extra + "".join(each.table() for each in street.lending)
    path = write_settings(net, operator, home, extra=tables)
    settings = load([path], [LARGEST_GAS]).settings
    if tables:
        calls = asyncio.run(_missing(settings))
        net.chain.send_all([Transaction(operator.owner, operator.contract, data) for data in calls])
    return path, settings


async def _missing(settings: Settings) -> list[bytes]:
    """Return the owner's calls that allow what the settings need."""
    from keeper.doctor.node import dial
    from keeper.doctor.permissions import missing

    chain = settings.chains[CHAIN_NAME]
    assert chain.contract is not None
    async with AsyncExitStack() as stack:
        (rpc,) = await dial(chain, stack)
        return [each.data for each in await missing(rpc, chain, chain.contract, ())]
