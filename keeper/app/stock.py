"""What the contract and the operator hold at one head, read in one multicall."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keeper.planning.owner_calls import encode_refill_cap, encode_refilled, encode_treasury
from keeper.planning.treasury import Balance, balance_calls, native, read_balances, read_word
from keeper.ports import Reader
from keeper.types import Call, Token
from keeper.units import Address, Hash, Usd, Wei

DAY = 86_400
_ETHER_OF = bytes.fromhex("4d2301cc")
"""getEthBalance(address) of Multicall3."""


@dataclass(frozen=True, slots=True)
class Stock:
    """Balances on the contract, the operator's gas, and how far the owner lets profit refill it.

    `refill_cap` is per UTC day, `refilled` what `day` has had of it. `unread` are the tokens that did not
    tell their balance: nothing is known of it.
    """

    balances: tuple[Balance, ...]
    treasury: Address
    operator: Wei
    refill_cap: Wei
    refilled: Wei
    day: int
    unread: tuple[Token, ...] = ()

    def refillable(self, timestamp: int) -> Wei:
        """Return what the owner's cap leaves for the day of a block."""
        done = self.refilled if timestamp // DAY == self.day else 0
        return Wei(max(self.refill_cap - done, 0))


async def read_ether(
    reader: Reader, multicall: Address, wallets: Sequence[Address], block: Hash
) -> dict[Address, Wei]:
    """Return each wallet's native coin; raise `TransientError` for one that was not read."""
    calls = [Call(multicall, _ETHER_OF + bytes(12) + wallet) for wallet in wallets]
    results = await reader.multicall(calls, block)
    return {
        wallet: Wei(read_word(result, "a wallet"))
        for wallet, result in zip(wallets, results, strict=True)
    }


async def take_stock(
    reader: Reader,
    contract: Address,
    multicall: Address,
    operator: Address,
    tokens: Sequence[Token],
    prices: Mapping[Address, Usd],
    timestamp: int,
    block: Hash,
) -> Stock:
    """Read everything at one block; raise `TransientError` when anything but a token was not read."""
    day = timestamp // DAY
    listed = (native(), *tokens)
    rest = (
        Call(contract, encode_treasury()),
        Call(multicall, _ETHER_OF + bytes(12) + operator),
        Call(contract, encode_refill_cap()),
        Call(contract, encode_refilled(day)),
    )
    calls = balance_calls(contract, multicall, listed)
    results = await reader.multicall((*calls, *rest), block)
    treasury, gas, cap, refilled = (read_word(each, "the treasury") for each in results[-4:])
    balances, unread = read_balances(listed, results[:-4], prices)
    return Stock(
        tuple(balances),
        Address(treasury.to_bytes(32, "big")[12:]),
        Wei(gas),
        Wei(cap),
        Wei(refilled),
        day,
        tuple(unread),
    )
