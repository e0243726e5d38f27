"""Load one Morpho deployment at one block: its markets, and every borrower of them."""

import asyncio
from collections.abc import Collection, Iterator, Sequence, Set as AbstractSet
from dataclasses import replace

from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from keeper.chain.words import WORD, address, answered, answers, read, text, uint
from keeper.errors import ConfigError, IncompleteError, RpcError
from keeper.ports import Reader
from keeper.protocols.morpho_blue.accounts import key_of, pack
from keeper.protocols.morpho_blue.early import FIRST, Early, EarlyTerms, load_authorisers
from keeper.protocols.morpho_blue.events import BORROW, CREATE, LIQUIDATE, SUPPLY_COLLATERAL
from keeper.protocols.morpho_blue.ledger import Ledger, Pool, Terms, Totals
from keeper.types import Call, CallResult, Head, Log, Token, Watch
from keeper.units import ZERO_ADDRESS, Address, Hash

_NOBODY = bytes(20)


async def check(reader: Reader, morpho: Address, ids: Collection[Hash], head: Head) -> None:
    """Raise `ConfigError` where there is no Morpho Blue, or no market of one of the ids."""
    shown = to_checksum_address(morpho)
    if not await reader.code(morpho, head.hash):
        raise ConfigError(f"morpho {shown} has no code", "check the address and the chain")
    probes = [
        read(morpho, "owner()"),
        read(morpho, "isLltvEnabled(uint256)", 0),
        read(morpho, "market(bytes32)", bytes(WORD)),
        *(read(morpho, "idToMarketParams(bytes32)", each) for each in ids),
    ]
    try:
        owner, enabled, market, *params = await reader.multicall(probes, head.hash)
    except RpcError as error:
        raise ConfigError(f"morpho {shown} is not Morpho Blue", "check the address") from error
    widths = [len(each.data) // WORD if each.ok else 0 for each in (owner, enabled, market)]
    if widths != [1, 1, 6]:
        raise ConfigError(f"morpho {shown} is not Morpho Blue", "check the address")
    for identity, result in zip(ids, params, strict=True):
        if not result.ok or not any(result.data):
            raise ConfigError(f"morpho {shown} has no market 0x{identity.hex()}", "check the id")


async def load(
    reader: Reader,
    market: str,
    morpho: Address,
    ids: Collection[Hash],
    early: Sequence[EarlyTerms],
    head: Head,
    first_block: int,
) -> Ledger:
    """Return the ledger as of exactly this head; without ids, of every market ever created."""
    ledger = empty(market, early)
    await load_authorisers(reader, market, morpho, ledger.early, head, first_block)
    found = set(ids) or await _created(reader, market, morpho, head, first_block)
    await _pools(reader, morpho, head, ledger, sorted(found))
    await _tokens(reader, head, ledger)
    await _borrowers(reader, morpho, head, ledger, first_block)
    await _bad_debt(reader, morpho, head, ledger, first_block)
    return ledger


def empty(market: str, early: Sequence[EarlyTerms]) -> Ledger:
    """Return a ledger that knows its pre-liquidation contracts and nothing else."""
    return Ledger(market, tuple(Early(FIRST + at, each) for at, each in enumerate(early)))


async def _created(
    reader: Reader, market: str, morpho: Address, head: Head, first_block: int
) -> AbstractSet[bytes]:
    watch = Watch(frozenset({morpho}), frozenset({CREATE}))
    return await reader.collect(
        f"markets of {market}", watch, first_block, head.number, lambda log: log.topics[1]
    )


async def _pools(
    reader: Reader, morpho: Address, head: Head, ledger: Ledger, ids: Sequence[bytes]
) -> None:
    calls = [
        read(morpho, signature, each)
        for each in ids
        for signature in ("idToMarketParams(bytes32)", "market(bytes32)")
    ]
    data = answers(await reader.multicall(calls, head.hash), f"markets of {ledger.market}", 5)
    for identity, params, state in zip(ids, data[::2], data[1::2], strict=True):
        if keccak(params) != identity:
            raise IncompleteError(f"market 0x{identity.hex()} was not read")
        loan, collateral, oracle, irm = (address(params, at) for at in range(4))
        ledger.create(Hash(identity), Terms(loan, collateral, oracle, irm, uint(params, 4)))
        ledger.pools[Hash(identity)].totals = read_totals(state)
    modelled = [pool for pool in ledger.numbered if pool.terms.irm != ZERO_ADDRESS]
    results = await reader.multicall(
        [read(pool.terms.irm, "rateAtTarget(bytes32)", pool.id) for pool in modelled], head.hash
    )
    for pool, result in zip(modelled, results, strict=True):
        if answered(result):
            pool.totals = replace(pool.totals, rate_at_target=uint(result.data))


def read_totals(state: bytes) -> Totals:
    """Return a market's totals from its six words (IMorpho.market)."""
    return Totals(*(uint(state, at) for at in range(6)))


async def _tokens(reader: Reader, head: Head, ledger: Ledger) -> None:
    wanted = unnamed(ledger.numbered)
    name(ledger, wanted, await reader.multicall(naming(wanted), head.hash))


def unnamed(pools: Sequence[Pool]) -> list[Address]:
    """Return the tokens whose symbol and decimals were not read."""
    missing = {pool.terms.loan: None for pool in pools if pool.loan is None}
    missing |= {pool.terms.collateral: None for pool in pools if pool.collateral is None}
    return sorted(missing)


def naming(tokens: Sequence[Address]) -> list[Call]:
    """Return the reads that name tokens, two each."""
    return [read(token, each) for token in tokens for each in ("symbol()", "decimals()")]


def name(ledger: Ledger, tokens: Sequence[Address], results: Sequence[CallResult]) -> None:
    """Take the answers to `naming`; a market of a token that has none is never acted on."""
    found: dict[Address, Token] = {}
    for token, symbol, decimals in zip(tokens, results[::2], results[1::2], strict=True):
        if decimals.ok and len(decimals.data) >= WORD and uint(decimals.data) <= 77:
            shown = text(symbol.data) if symbol.ok else ""
            found[token] = Token(token, shown or f"0x{token[:4].hex()}", uint(decimals.data))
    for pool in ledger.numbered:
        pool.loan = pool.loan or found.get(pool.terms.loan)
        pool.collateral = pool.collateral or found.get(pool.terms.collateral)
    ledger.terms += bool(found)


async def _borrowers(
    reader: Reader, morpho: Address, head: Head, ledger: Ledger, first_block: int
) -> None:
    watch = Watch(frozenset({morpho}), frozenset({BORROW, SUPPLY_COLLATERAL}))
    stage = f"history of {ledger.market}"
    found = await reader.collect(stage, watch, first_block, head.number, _position)
    keys = await asyncio.to_thread(_followed, ledger, found)
    places: Iterator[bytes] = iter(keys)

    def take(results: Sequence[CallResult]) -> None:
        for data in answers(results, f"borrowers of {ledger.market}", 3):
            key = next(places)
            pool = ledger.pools[Hash(key[:WORD])]
            record = pack(uint(data, 2), uint(data, 1))
            ledger.put(pool, key_of(pool.number, Address(key[WORD:])), record)

    calls = (read(morpho, "position(bytes32,address)", key[:WORD], key[WORD:]) for key in keys)
    await reader.sweep(f"borrowers of {ledger.market}", calls, len(keys), head.hash, take)
    _check_totals(ledger, first_block)


def _position(log: Log) -> bytes:
    """Return market and borrower: collateral or debt starts with one of these two events."""
    place = 2 if log.topics[0] == BORROW else 3
    if len(log.topics) != 4:
        return bytes(WORD) + _NOBODY
    return log.topics[1] + log.topics[place][12:]


def _followed(ledger: Ledger, found: AbstractSet[bytes]) -> list[bytes]:
    return sorted(key for key in found if Hash(key[:WORD]) in ledger.pools)


def _check_totals(ledger: Ledger, first_block: int) -> None:
    owed = [0] * len(ledger.numbered)
    for key in ledger.accounts:
        owed[int.from_bytes(key[:4], "big")] += int.from_bytes(ledger.accounts.get(key)[16:], "big")
    for pool, total in zip(ledger.numbered, owed, strict=True):
        if total != pool.totals.borrow_shares:
            raise IncompleteError(
                f"market {ledger.market}: borrowers of 0x{pool.id.hex()} owe {total} shares, "
                f"not {pool.totals.borrow_shares}",
                f"set first_block below {first_block}" if first_block else "",
            )


async def _bad_debt(
    reader: Reader, morpho: Address, head: Head, ledger: Ledger, first_block: int
) -> None:
    """Add up what liquidations wrote off: the state does not keep it."""
    watch = Watch(frozenset({morpho}), frozenset({LIQUIDATE}))
    stage = f"liquidations of {ledger.market}"
    found = await reader.collect(stage, watch, first_block, head.number, _written_off)
    for key in found:
        pool = ledger.pools.get(Hash(key[:WORD]))
        if pool is not None:
            more = pool.totals.bad_debt + uint(key, 1)
            pool.totals = replace(pool.totals, bad_debt=more)


def _written_off(log: Log) -> bytes:
    """Return market, amount and place of a bad debt; all that wrote nothing off are one key."""
    if len(log.data) != 5 * WORD or not uint(log.data, 3):
        return bytes(2 * WORD + 12)
    place = log.block_number.to_bytes(8, "big") + log.index.to_bytes(4, "big")
    return log.topics[1] + log.data[3 * WORD : 4 * WORD] + place
