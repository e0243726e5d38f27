"""Ask the API beside the line: never waited for, within a deadline, and never believed."""

import asyncio
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp

from keeper.errors import ConfigError, RpcError, TransientError
from keeper.types import Head
from keeper.units import Address, to_hex
from keeper.venues.quote_api.answer import MOST_ANSWER, Lane, Offer, read_offer
from keeper.venues.quote_api.rehearsal import Rehearsal, Tried

PLACES = ("chain_id", "sell", "buy", "amount", "taker", "slippage_bps")


@dataclass(frozen=True, slots=True)
class Api:
    """How to ask: an address with places to fill, and who may be called by the answer."""

    url: str = field(repr=False)
    chain_id: int
    router: Address
    spender: Address
    selectors: frozenset[bytes]
    slippage_bps: int
    fields: Mapping[str, str]
    key_header: str = ""
    key_env: str = ""


@dataclass(frozen=True, slots=True)
class Trusted:
    """An offer that brought what it promised when it was tried at a head."""

    offer: Offer
    tried: Tried
    head: int


class Desk:
    """Ask for offers and try each; what is refused is counted by its reason.

    A key is read from the environment, sent in a header alone, and in no text of an error.
    """

    def __init__(self, api: Api, contract: Address, deadline: float) -> None:
        self._api = api
        self._contract = contract
        self._deadline = deadline
        self.refused: Counter[str] = Counter()
        key = os.environ.get(api.key_env, "") if api.key_env else ""
        if api.key_env and not key:
            raise ConfigError(
                f"the environment has no {api.key_env}", "key_env names the variable with the key"
            )
        self._headers = {api.key_header: key} if key else {}

    def __repr__(self) -> str:
        """Show nothing of how the API is reached."""
        return "Desk()"

    async def ask(
        self, wanted: Mapping[Lane, int], rehearsal: Rehearsal, head: Head
    ) -> list[Trusted]:
        """Return the offers that held, asked for and tried within the deadline, side by side."""
        timeout = aiohttp.ClientTimeout(total=self._deadline)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            found = await asyncio.gather(
                *(
                    self._try(session, lane, amount, rehearsal, head)
                    for lane, amount in wanted.items()
                )
            )
        return [each for each in found if each is not None]

    async def _try(
        self,
        session: aiohttp.ClientSession,
        lane: Lane,
        amount: int,
        rehearsal: Rehearsal,
        head: Head,
    ) -> Trusted | None:
        try:
            async with asyncio.timeout(self._deadline):
                # Only the chain is asked so far: where it tries no calls, nobody else is.
                await rehearsal.prepare(lane.sold, head)
                offer = await self._offer(session, lane, amount)
                api = self._api
                tried = await rehearsal.run(offer, api.router, api.spender, head)
        except TimeoutError:
            self.refused["no answer within the deadline"] += 1
        except TransientError as error:
            self.refused[str(error)] += 1
        except RpcError:
            self.refused["the node does not try calls"] += 1
        except (KeyError, TypeError, ValueError):
            self.refused["the node's trial makes no sense"] += 1
        except (aiohttp.ClientError, OSError) as error:
            # Their texts may hold the address, and that a key.
            self.refused[f"no answer ({type(error).__name__})"] += 1
        else:
            return Trusted(offer, tried, head.number)
        return None

    async def _offer(self, session: aiohttp.ClientSession, lane: Lane, amount: int) -> Offer:
        api = self._api
        told = (
            *(str(api.chain_id), to_hex(lane.sold), to_hex(lane.bought), str(amount)),
            *(to_hex(self._contract), str(api.slippage_bps)),
        )
        url = api.url
        for name, value in zip(PLACES, told, strict=True):
            url = url.replace(f"{{{name}}}", value)
        async with session.get(url, headers=self._headers, allow_redirects=False) as response:
            if response.status != 200:
                raise TransientError(f"the API answers {response.status}")
            content = await response.content.read(MOST_ANSWER + 1)
            while len(content) <= MOST_ANSWER and (more := await response.content.readany()):
                content += more
            if len(content) > MOST_ANSWER:
                raise TransientError("the answer is too long")
        return read_offer(content, api.fields, lane, amount, api.router, api.selectors)
