"""Read weighted pools as they stand at one block, and find out how each takes powers."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from keeper.errors import ConfigError
from keeper.ports import Reader
from keeper.types import Call, CallResult, Head
from keeper.units import ZERO_ADDRESS, Address, to_hex
from keeper.venues.balancer_v2.pool import Lending, Pool, State
from keeper.venues.balancer_v2.powers import Powers

POOL_ID = bytes.fromhex("38fff2d0")
POOL_TOKENS = bytes.fromhex("f94d4668")
TOKEN_INFO = bytes.fromhex("b05f8e48")
WEIGHTS = bytes.fromhex("f89f27ed")
GRADUAL_UPDATE = bytes.fromhex("7beed220")
SWAP_FEE = bytes.fromhex("55c67628")
PAUSED = bytes.fromhex("1c0de051")
DECIMALS = bytes.fromhex("313ce567")
QUERY = bytes.fromhex("f84d066e")
COLLECTOR = bytes.fromhex("d2946c2b")
FLASH_FEE = bytes.fromhex("d877845c")

_QUERY_TYPES = (
    "uint8",
    "(bytes32,uint256,uint256,uint256,bytes)[]",
    "address[]",
    "(address,bool,address,bool)",
)
_PROBES = (3, 1_000)
"""What divides the largest amount a pool takes: it is asked about a large and a usual one."""


async def read_pools(
    reader: Reader, head: Head, vault: Address, addresses: Sequence[Address]
) -> tuple[bool, list[Pool]]:
    """Return whether the vault is paused, and the pools as of exactly this head.

    Raises `ConfigError` for an address that is no weighted pool of the vault.
    """
    first = await reader.multicall(
        [
            Call(vault, PAUSED),
            *(
                Call(address, selector)
                for address in addresses
                for selector in (POOL_ID, WEIGHTS, GRADUAL_UPDATE)
            ),
        ],
        head.hash,
    )
    halted = bool(_read(first[0], ["bool", "uint256", "uint256"], vault)[0])
    found = []
    for index, address in enumerate(addresses):
        named, weighted, moving = first[1 + 3 * index : 4 + 3 * index]
        if moving.ok and moving.data:
            raise ConfigError(f"pool {to_hex(address)} moves its weights by time", "leave it out")
        number: bytes = _read(named, ["bytes32"], address)[0]
        weights: tuple[int, ...] = _read(weighted, ["uint256[]"], address)[0]
        found.append((address, number, weights))
    held = await reader.multicall(
        [Call(vault, POOL_TOKENS + number) for _, number, _ in found], head.hash
    )
    pools = []
    for (address, number, weights), result in zip(found, held, strict=True):
        tokens, _, _ = _read(result, ["address[]", "uint256[]", "uint256"], address)
        made = tuple(Address(bytes.fromhex(token[2:])) for token in tokens)
        if len(made) != len(weights):
            raise ConfigError(f"pool {to_hex(address)} is no weighted pool", "leave it out")
        decimals = await reader.multicall([Call(token, DECIMALS) for token in made], head.hash)
        units = tuple(map(_unit, made, decimals))
        pools.append(Pool(address, number, made, weights, units, State((), (), 0, False)))
    await read_states(reader, head, vault, pools)
    await find_powers(reader, head, vault, pools)
    return halted, pools


async def read_lending(reader: Reader, head: Head, vault: Address) -> Lending:
    """Return what the vault asks for flash loans (FlashLoans.sol), as of exactly this head."""
    (told,) = await reader.multicall([Call(vault, COLLECTOR)], head.hash)
    collector = Address(bytes.fromhex(_read(told, ["address"], vault)[0][2:]))
    (fee,) = await reader.multicall([fee_call(collector)], head.hash)
    return Lending(collector, read_fee(fee, collector))


def fee_call(collector: Address) -> Call:
    """Return the read of the fee of flash loans."""
    return Call(collector, FLASH_FEE)


def read_fee(result: CallResult, collector: Address) -> int:
    """Return the fee, in 1e18ths, that the answer to `fee_call` tells."""
    fee: int = _read(result, ["uint256"], collector)[0]
    return fee


def _unit(token: Address, result: CallResult) -> int:
    """Return what lifts a token to 18 decimals; raise `ConfigError` when it does not say its own."""
    told = int.from_bytes(result.data) if result.ok and len(result.data) == 32 else 19
    if told > 18:
        raise ConfigError(
            f"token {to_hex(token)} does not say how many decimals it has, 18 at most",
            "leave out the pools that hold it",
        )
    return int(10 ** (18 - told))


async def read_states(reader: Reader, head: Head, vault: Address, pools: Sequence[Pool]) -> None:
    """Bring pools to what the chain says at a head."""
    calls = [call for pool in pools for call in state_calls(vault, pool)]
    results = iter(await reader.multicall(calls, head.hash))
    for pool in pools:
        pool.state = read_state(pool, [next(results) for _ in range(2 + len(pool.tokens))])


def state_calls(vault: Address, pool: Pool) -> list[Call]:
    """Return the reads of a pool's fee, pause and balances."""
    infos = (
        Call(vault, TOKEN_INFO + pool.number + token.rjust(32, b"\0")) for token in pool.tokens
    )
    return [Call(pool.address, SWAP_FEE), Call(pool.address, PAUSED), *infos]


def read_state(pool: Pool, results: Sequence[CallResult]) -> State:
    """Return the state that the answers to `state_calls` tell."""
    fee = _read(results[0], ["uint256"], pool.address)[0]
    paused = _read(results[1], ["bool", "uint256", "uint256"], pool.address)[0]
    infos = [
        _read(result, ["uint256", "uint256", "uint256", "address"], pool.address)
        for result in results[2:]
    ]
    return State(tuple(i[0] for i in infos), tuple(i[1] for i in infos), fee, bool(paused))


async def find_powers(reader: Reader, head: Head, vault: Address, pools: Sequence[Pool]) -> None:
    """Let each pool answer amounts of every pair, and take the formula that gives the same.

    Raises `ConfigError` when none does. A pool that answers nothing, because it is paused or still
    empty at this head, is left without one, to be asked again.
    """
    # Later ones move on while the first are asked.
    for pool, state in [(pool, pool.state) for pool in pools]:
        asked = [
            (sold, bought, amount)
            for sold, bought in permutations(range(len(pool.tokens)), 2)
            for part in _PROBES
            if (amount := state.cash[sold] * 3 // 10 // part)
        ]
        calls = [Call(vault, query(pool, *each)) for each in asked]
        answers = await reader.multicall(calls, head.hash)
        told = [
            (each, -_read(result, ["int256[]"], pool.address)[0][each[1]])
            for each, result in zip(asked, answers, strict=True)
            if result.ok
        ]
        if told:
            pool.powers = _powers_of(pool, state, told)


def _powers_of(
    pool: Pool, state: State, told: Sequence[tuple[tuple[int, int, int], int]]
) -> Powers:
    """Return the formula under which the pool, as it was asked, gives what it told."""
    for powers in Powers:
        tried = replace(pool, state=state, powers=powers)
        if all(tried.sell(state.cash, *each) == out for each, out in told):
            return powers
    raise ConfigError(
        f"pool {to_hex(pool.address)} does not follow the weighted formula", "leave it out"
    )


def query(pool: Pool, sold: int, bought: int, amount: int) -> bytes:
    """Return the vault's own query of a swap, tokens by index; it answers what each one moves."""
    swap = (pool.number, sold, bought, amount, b"")
    funds = (ZERO_ADDRESS, False, ZERO_ADDRESS, False)
    return QUERY + encode(_QUERY_TYPES, (0, [swap], list(pool.tokens), funds))


def _read(result: CallResult, kinds: Sequence[str], who: Address) -> tuple[Any, ...]:
    """Return a decoded answer; raise `ConfigError` when it is not one."""
    try:
        return decode(kinds, result.data if result.ok else b"")
    except (DecodingError, OverflowError):
        raise ConfigError(
            f"{to_hex(who)} does not answer as Balancer V2 does",
            "check the addresses of the vault and its weighted pools, and the chain",
        ) from None
