"""Which of its own tokens a contract can repay with: looked at now and then, read at every head."""

from collections.abc import Callable, Container, Mapping
from contextlib import AsyncExitStack

import structlog

from keeper.app.looking import Looking
from keeper.config import Chain
from keeper.engine import Report
from keeper.errors import TransientError
from keeper.observers.observation import Event, Observation
from keeper.planning.inventory import Inventory
from keeper.ports import Reader
from keeper.types import Token
from keeper.units import Address

log = structlog.get_logger(__name__)


class Stockroom:
    """Follow each token of which the contract has something; what is not there costs no head a read.

    Looked for again now and then: an owner may bring capital while the keeper runs.
    """

    def __init__(
        self,
        chain: str,
        reader: Reader,
        inventory: Inventory,
        tokens: Callable[[], Mapping[Address, Token]],
    ) -> None:
        self._chain = chain
        self._reader = reader
        self._inventory = inventory
        self._tokens = tokens
        self._looking = Looking(self.read, self._unread)

    async def read(self) -> None:
        """Look at every token; raise `TransientError` when nobody answers."""
        found = await find_tokens(self._reader, self._inventory, self._tokens())
        if found:
            log.info("inventory.found", chain=self._chain, tokens=found)

    def observe(self, subject: Report | Event) -> None:
        """Look again now and then, beside the line."""
        if isinstance(subject, Report):
            self._looking.pass_head()

    async def close(self) -> None:
        """End a look that is under way."""
        await self._looking.close()

    def _unread(self, error: TransientError) -> None:
        log.debug("inventory.unread", chain=self._chain, error=str(error) or repr(error))


async def find_tokens(
    reader: Reader, inventory: Inventory, tokens: Mapping[Address, Token]
) -> list[str]:
    """Let an inventory follow those of some tokens that are there; return the symbols of new ones.

    Raises `TransientError` when nobody answers.
    """
    known = list(tokens)
    results = await reader.multicall(inventory.reads(known))
    found = inventory.follow(inventory.read(known, results))
    return sorted(tokens[token].symbol for token in found)


def make_inventory(
    chain: Chain, leaving: Callable[[], Container[Address]] = frozenset
) -> Inventory | None:
    """Return what knows of a chain's own capital; None without a contract, or where it is not used."""
    table = chain.inventory
    if chain.contract is None or table.use == "off":
        return None
    return Inventory(chain.contract, table.share_bps, loose=table.use == "all", leaving=leaving)


async def open_inventory(
    name: str,
    chain: Chain,
    tokens: Callable[[], Mapping[Address, Token]],
    leaving: Callable[[], Container[Address]],
    reader: Reader,
    observation: Observation,
    stack: AsyncExitStack,
) -> Inventory | None:
    """Return what knows of a chain's own capital, looked at first; None where none is used.

    `leaving` are the tokens that are being swept or sold.
    """
    inventory = make_inventory(chain, leaving)
    if inventory is None:
        return None
    room = Stockroom(name, reader, inventory, tokens)
    await room.read()
    observation.add(room.observe)
    stack.push_async_callback(room.close)
    return inventory
