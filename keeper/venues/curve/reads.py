"""Find out what a Curve pool is, and read what an exchange in it depends on."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, permutations
from typing import assert_never

from keeper.chain.words import is_word, words
from keeper.errors import ConfigError
from keeper.ports import Reader
from keeper.types import Call, CallResult, Head
from keeper.units import ZERO_ADDRESS, Address, to_hex
from keeper.venues.curve import crypto, stable
from keeper.venues.curve.crypto import Crypto
from keeper.venues.curve.pool import CryptoKind, Kind, Pool, StableKind, State
from keeper.venues.curve.stable import Product, Stable

COINS = bytes.fromhex("c6610657")
BALANCES = bytes.fromhex("4903b0d1")
A, A_PRECISE = bytes.fromhex("f446c1d0"), bytes.fromhex("76a2f0f0")
FEE, ADMIN_FEE = bytes.fromhex("ddca3f43"), bytes.fromhex("fee3f7f9")
OFF_PEG = bytes.fromhex("8edfdd5f")
STORED_RATES = bytes.fromhex("fd0684b1")
BASE_POOL = bytes.fromhex("5d6362bb")
RAMP_END, GAMMA_RAMP_END = bytes.fromhex("14052288"), bytes.fromhex("f9ed9597")
GAMMA, INVARIANT = bytes.fromhex("b1373929"), bytes.fromhex("0f529ba2")
PRICE_SCALE, PRICE_SCALES = bytes.fromhex("b9e8c9fd"), bytes.fromhex("a3f7cdd5")
MID_FEE, OUT_FEE = bytes.fromhex("92526c0c"), bytes.fromhex("ee8de675")
FEE_GAMMA = bytes.fromhex("72d4f0e2")
KILLED = bytes.fromhex("9c868ac0")
GET_DY_STABLE, GET_DY_CRYPTO = bytes.fromhex("5e0d443f"), bytes.fromhex("556d6e9f")
FIND_POOL = bytes.fromhex("6982eb0b")
SPENDER_OF = bytes.fromhex("90e3d9b9")
"""liquidator.vy: spender_of(address,bytes4)."""
DECIMALS = bytes.fromhex("313ce567")

NATIVE = Address(b"\xee" * 20)
"""How a pool names the native coin."""
MOST_COINS = 4
_FOUND = 8
"""Pools asked for of one pair of coins; a registry has no more than a few."""
_PROBES = (7, 1_000, 1_000_000)
"""What divides a balance: amounts a pool is asked about, from large to small."""


async def find_pools(
    reader: Reader, head: Head, registry: Address, tokens: Iterable[Address]
) -> list[Address]:
    """Return the pools a registry or factory has of any two tokens (`find_pool_for_coins`).

    Raises `ConfigError` when the address is no such registry.
    """
    pairs = list(combinations(sorted(tokens), 2))
    asked = [
        Call(registry, FIND_POOL + words(*pair, number))
        for pair in pairs
        for number in range(_FOUND)
    ]
    answers = await reader.multicall(asked, head.hash)
    if pairs and not any(answer.ok and len(answer.data) == 32 for answer in answers):
        raise ConfigError(
            f"{to_hex(registry)} does not answer find_pool_for_coins: it is no Curve registry",
            "check the venue's registry address and the chain",
        )
    found = {Address(each.data[12:]) for each in answers if each.ok and len(each.data) == 32}
    return sorted(found - {ZERO_ADDRESS})


async def allowed(
    reader: Reader, head: Head, contract: Address, asked: Sequence[tuple[Address, bytes]]
) -> list[int | None]:
    """Say which calls, by target and selector, the contract's owner has allowed: 0 for not.

    None where that was not answered.
    """
    calls = [
        Call(contract, SPENDER_OF + words(target) + selector.ljust(32, b"\0"))
        for target, selector in asked
    ]
    return [_number(answer) for answer in await reader.multicall(calls, head.hash)]


async def load_pool(reader: Reader, head: Head, address: Address) -> Pool:
    """Return a pool, its state as of this head, with the formulas that give its own quotes.

    Raises `ConfigError` for what is no such pool, or follows no formula known here.
    """
    shape = [Call(address, COINS + words(index)) for index in range(MOST_COINS + 1)]
    marks = [Call(address, each) for each in (A_PRECISE, GAMMA, STORED_RATES, BASE_POOL, A)]
    told = await reader.multicall([*shape, *marks], head.hash)
    coins = tuple(_coin(each) for each in _answered(told[: MOST_COINS + 1]))
    precise, gamma, rates, base, amplified = (is_word(each) for each in told[MOST_COINS + 1 :])
    rated = rates or told[MOST_COINS + 3].ok
    if not 2 <= len(coins) <= MOST_COINS or not amplified:
        raise ConfigError(
            f"{to_hex(address)} does not answer as a Curve pool does",
            "check the pool's address and the chain; pools of lent coins are not known here",
        )
    if base:
        raise ConfigError(f"pool {to_hex(address)} holds another pool's shares", "leave it out")
    decimals = await _decimals(reader, head, coins)
    kinds: list[Kind]
    if gamma:
        multiplier = 100 if precise else 10_000
        kinds = [CryptoKind(multiplier, renewing) for renewing in (False, True)]
    else:
        products = (Product.LAST, Product.EACH) if rated else (Product.EACH, Product.LAST)
        kinds = [StableKind(100 if precise else 1, product) for product in products]
    return await _probed(reader, head, [Pool(address, coins, decimals, kind) for kind in kinds])


def state_calls(pool: Pool) -> list[Call]:
    """Return the reads of all that an exchange in a pool depends on."""
    count = len(pool.coins)
    match pool.kind:
        case StableKind():
            selectors = [RAMP_END, A_PRECISE, A, FEE, ADMIN_FEE, OFF_PEG, STORED_RATES, KILLED]
        case CryptoKind():
            selectors = [GAMMA_RAMP_END, A_PRECISE, A, GAMMA, INVARIANT, MID_FEE, OUT_FEE]
            selectors += [FEE_GAMMA, KILLED]
            if count == 2:
                selectors.append(PRICE_SCALE)
            else:
                selectors += [PRICE_SCALES + words(index) for index in range(count - 1)]
        case never:
            assert_never(never)
    selectors += [BALANCES + words(index) for index in range(count)]
    return [Call(pool.address, selector) for selector in selectors]


def read_state(pool: Pool, results: Sequence[CallResult], timestamp: int) -> State | None:
    """Return the state that the answers to `state_calls` tell for a block of this time.

    None where it is not known: the pool's A moves, its rates do, it is killed, or it did not answer.
    """
    count = len(pool.coins)
    ramp, precise, plain, *rest = results[:-count]
    held = tuple(_answered(results[-count:]))
    amplification = _number(precise) or _number(plain)
    ends = _number(ramp) or 0
    if len(held) != count or not amplification or timestamp < ends:
        return None
    match pool.kind:
        case StableKind(precision, product):
            fee, admin, off_peg, rates, killed = rest
            units = tuple(10 ** (36 - each) for each in pool.decimals)
            if _number(killed) or not _are_fixed(rates, units):
                return None
            fees = _number(fee), _number(admin)
            if fees[0] is None or fees[1] is None:
                return None
            lean = _number(off_peg) or 0
            return Stable(held, units, amplification, precision, fees[0], fees[1], lean, product)
        case CryptoKind(multiplier, renewing):
            *figures, killed = rest[:6]
            told, prices = list(_answered(figures)), tuple(_answered(rest[6:]))
            if _number(killed) or len(told) != 5 or len(prices) != count - 1:
                return None
            gamma, d, mid, out, fee_gamma = told
            scale = tuple(10 ** (18 - each) for each in pool.decimals)
            renews = renewing and ends > 0
            return Crypto(
                *(held, scale, prices, d, amplification, multiplier, gamma),
                *(mid, out, fee_gamma, renews),
            )


async def _probed(reader: Reader, head: Head, tries: Sequence[Pool]) -> Pool:
    """Return the first that says of many amounts what the pool itself says."""
    first = tries[0]
    results = await reader.multicall(state_calls(first), head.hash)
    for pool in tries:
        pool.state = read_state(pool, results, head.timestamp)
    if first.state is None:
        # It cannot be asked now. Its layout says what it most likely is; each sale is simulated.
        return first
    selector = GET_DY_CRYPTO if isinstance(first.kind, CryptoKind) else GET_DY_STABLE
    asked = [
        (sold, bought, amount)
        for sold, bought in permutations(range(len(first.coins)), 2)
        for part in _PROBES
        if (amount := first.state.balances[sold] // part)
    ]
    calls = [Call(first.address, selector + words(*each)) for each in asked]
    answers = await reader.multicall(calls, head.hash)
    told = [
        (each, value)
        for each, answer in zip(asked, answers, strict=True)
        if (value := _number(answer)) is not None
    ]
    for pool in tries:
        if told and all(value in _said(pool.state, *each) for each, value in told):
            return pool
    raise ConfigError(
        f"pool {to_hex(first.address)} follows no Curve formula known here", "leave it out"
    )


def _said(state: State | None, sold: int, bought: int, amount: int) -> tuple[int, ...]:
    try:
        match state:
            case Stable():
                return stable.views(state, sold, bought, amount)
            case Crypto():
                return (crypto.exchange(state, sold, bought, amount),)
            case None:
                return ()
    except ArithmeticError:
        return ()


async def _decimals(reader: Reader, head: Head, coins: Sequence[Address]) -> tuple[int, ...]:
    asked = [Call(coin, DECIMALS) for coin in coins if coin != ZERO_ADDRESS]
    answers = iter(await reader.multicall(asked, head.hash))
    found = []
    for coin in coins:
        told = 18 if coin == ZERO_ADDRESS else _number(next(answers))
        if told is None or told > 18:
            raise ConfigError(
                f"token {to_hex(coin)} does not say how many decimals it has, 18 at most",
                "leave out the pools that hold it",
            )
        found.append(told)
    return tuple(found)


def _are_fixed(result: CallResult, units: tuple[int, ...]) -> bool:
    """Say whether a pool's rates are its decimals alone; one without rates has no others."""
    if not result.ok or not result.data:
        return True
    told = [int.from_bytes(result.data[at : at + 32]) for at in range(0, len(result.data), 32)]
    return tuple(told[-len(units) :]) == units


def _answered(results: Iterable[CallResult]) -> Iterator[int]:
    """Yield the numbers up to the first call that did not answer."""
    for result in results:
        number = _number(result)
        if number is None:
            return
        yield number


def _coin(number: int) -> Address:
    coin = Address((number % 2**160).to_bytes(20))
    return Address(ZERO_ADDRESS) if coin == NATIVE else coin


def _number(result: CallResult) -> int | None:
    return int.from_bytes(result.data) if is_word(result) else None
