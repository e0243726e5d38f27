"""Find a Clipper and all around it, and read its auctions and urns at one block."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from keeper.chain.words import address, answered, answers, read, text, uint
from keeper.contracts import auctioneer as own
from keeper.errors import ConfigError, IncompleteError
from keeper.ports import Reader
from keeper.protocols.maker_clip.ledger import Kind, Ledger, Sale, Urn
from keeper.protocols.maker_clip.notes import FORK, FROB
from keeper.protocols.maker_clip.rules import Contracts
from keeper.types import Call, CallResult, Head, Log, Token, Watch
from keeper.units import ZERO_ADDRESS, Address

SALE_WORDS = 6
"""Words of what `sales` gives: position, debt, lot, owner, start, first price."""
KIND_WORDS = 5
"""Words of what Vat.ilks gives: all debts, rate, spot, ceiling, dust."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One Clipper: its contracts, the calculator it names, and its two tokens."""

    contracts: Contracts
    calculator: Address
    collateral: Token
    debt: Token


async def find(reader: Reader, clip: Address, auctioneer: Address, head: Head) -> Deployment:
    """Find a Clipper by its address and our auctioneer; raise `ConfigError` when one is not such."""
    shown = to_checksum_address(clip)
    names = ("calc()", "dog()", "vat()", "ilk()", "count()")
    results = await reader.multicall(
        [*(read(clip, name) for name in names), read(clip, "sales(uint256)", 0)], head.hash
    )
    if not all(each.ok and len(each.data) == 32 for each in results[:-1]):
        raise ConfigError(
            f"{shown} is no Clipper: it does not say its calculator, Dog and Vat",
            "clip is the contract that emits Kick, one for each kind of collateral",
        )
    if not results[-1].ok or len(results[-1].data) != 32 * SALE_WORDS:
        raise ConfigError(
            f"{shown} keeps its auctions in another form than a Clipper",
            "a Clipper of Maker's first kind: sales() gives six words",
        )
    calculator, dog, vat = (address(each.data) for each in results[:3])
    contracts = Contracts(clip, dog, vat, auctioneer, results[3].data)
    gem_join, debt = await _auctioneer(reader, contracts, head)
    (gem,) = await reader.multicall([read(gem_join, "gem()")], head.hash)
    if not answered(gem):
        raise ConfigError(f"{to_checksum_address(gem_join)} is no join: it does not say its gem")
    tokens = [await _token(reader, each, head) for each in (address(gem.data), debt)]
    if any(token.decimals != 18 for token in tokens):
        raise ConfigError(f"{tokens[0].symbol} and {tokens[1].symbol} need 18 decimals")
    return Deployment(contracts, calculator, *tokens)


async def _auctioneer(reader: Reader, contracts: Contracts, head: Head) -> tuple[Address, Address]:
    """Return the collateral's join and the stablecoin that an auctioneer names."""
    shown = to_checksum_address(contracts.auctioneer)
    if not own().is_code(await reader.code(contracts.auctioneer, head.hash)):
        raise ConfigError(
            f"auctioneer {shown} is not this keeper's contract of that name",
            "deploy it with `keeper contract deploy-auctioneer`",
        )
    names = ("clip()", "dog()", "gem_join()", "dollar()")
    asked = [read(contracts.auctioneer, name) for name in names]
    clip, dog, gem_join, dollar = map(
        address, answers(await reader.multicall(asked, head.hash), f"auctioneer {shown}")
    )
    if clip != contracts.clip:
        raise ConfigError(
            f"auctioneer {shown} is of the Clipper {to_checksum_address(clip)}",
            "each Clipper has one of its own",
        )
    if dog != contracts.dog:
        raise ConfigError(
            f"auctioneer {shown} calls the Dog {to_checksum_address(dog)}, the Clipper has another",
            "deploy another auctioneer with `keeper contract deploy-auctioneer`",
        )
    return gem_join, dollar


async def _token(reader: Reader, token: Address, head: Head) -> Token:
    calls = [read(token, "symbol()"), read(token, "decimals()")]
    symbol, decimals = await reader.multicall(calls, head.hash)
    if not (symbol.ok and answered(decimals)):
        raise ConfigError(f"{to_checksum_address(token)} is no token")
    return Token(token, text(symbol.data), uint(decimals.data))


async def load(
    reader: Reader, market: str, contracts: Contracts, head: Head, first_block: int
) -> Ledger:
    """Return every running auction and every urn as of exactly this head."""
    ledger = Ledger(market, contracts.clip, contracts.vat, contracts.ilk)
    await _auctions(reader, ledger, head)
    await _urns(reader, ledger, head, first_block)
    return ledger


async def _auctions(reader: Reader, ledger: Ledger, head: Head) -> None:
    clip, block = ledger.clip, head.hash
    (count,) = answers(await reader.multicall([read(clip, "count()")], block), ledger.market)
    listed = [read(clip, "active(uint256)", place) for place in range(uint(count))]
    numbers = [uint(each) for each in answers(await reader.multicall(listed, block), ledger.market)]
    for number, sale in zip(numbers, await sales(reader, ledger, numbers, head), strict=True):
        if sale is None:
            raise IncompleteError(f"auction {number} of {ledger.market} is listed and not running")
        ledger.sales[number] = sale


async def sales(
    reader: Reader, ledger: Ledger, numbers: Sequence[int], head: Head
) -> list[Sale | None]:
    """Return auctions by their numbers, None for one that does not run."""
    calls = [read(ledger.clip, "sales(uint256)", number) for number in numbers]
    data = answers(
        await reader.multicall(calls, head.hash), f"auctions of {ledger.market}", SALE_WORDS
    )
    return [
        Sale(uint(each, 1), uint(each, 2), uint(each, 4), uint(each, 5)) if uint(each, 3) else None
        for each in data
    ]


async def _urns(reader: Reader, ledger: Ledger, head: Head, first_block: int) -> None:
    """Load every urn that was ever frobbed or forked into, and see that their debts add up."""
    vat, ilk = ledger.vat, ledger.ilk

    def owner(place: int) -> Callable[[Log], bytes]:
        return lambda log: (
            log.topics[place][12:]
            if len(log.topics) == 4 and log.topics[1] == ilk
            else ZERO_ADDRESS
        )

    found: set[bytes] = set()
    for stage, topic, place in (("urns", FROB, 2), ("urns moved", FORK, 3)):
        watch = Watch(frozenset({vat}), frozenset({topic}))
        found.update(
            await reader.collect(
                f"{stage} of {ledger.market}", watch, first_block, head.number, owner(place)
            )
        )
    owners = [Address(each) for each in sorted(found) if each != ZERO_ADDRESS]
    waiting = iter(owners)

    def take(results: Sequence[CallResult]) -> None:
        for data in answers(results, f"urns of {ledger.market}", 2):
            name, urn = next(waiting), Urn(uint(data), uint(data, 1))
            if any(urn):
                ledger.urns[name] = urn

    calls = (urn_call(ledger, each) for each in owners)
    await reader.sweep(f"urns of {ledger.market}", calls, len(owners), head.hash, take)
    ledger.kind, debts = await kind(reader, ledger, head)
    if sum(urn.art for urn in ledger.urns.values()) != debts:
        await reader.forget()
        raise IncompleteError(f"the debts of {ledger.market} do not add up: see first_block")


def urn_call(ledger: Ledger, owner: Address) -> Call:
    """Return the read of one urn."""
    return read(ledger.vat, "urns(bytes32,address)", ledger.ilk, owner)


async def kind(reader: Reader, ledger: Ledger, head: Head) -> tuple[Kind, int]:
    """Return what holds for all urns, and the sum of their debts."""
    call = read(ledger.vat, "ilks(bytes32)", ledger.ilk)
    (data,) = answers(
        await reader.multicall([call], head.hash), f"collateral of {ledger.market}", KIND_WORDS
    )
    return Kind(uint(data, 1), uint(data, 2), uint(data, 4)), uint(data)
