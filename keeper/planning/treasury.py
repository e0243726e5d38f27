"""What the contract holds, what of it is worth sending to the treasury, and the plan that does it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eth_hash.auto import keccak

from keeper.errors import TransientError
from keeper.fees import DataFee
from keeper.planning.owner_calls import encode_kept, encode_sweep
from keeper.planning.size import transaction_size
from keeper.types import (
    Bid,
    Call,
    CallResult,
    Fees,
    Head,
    Holding,
    NextBlock,
    Plan,
    Prices,
    Token,
)
from keeper.units import ZERO_ADDRESS, Address, Usd, Wei, mul_div_down, mul_div_up

SWEEP_CALLDATA = 36
"""Bytes of a sweep's calldata: a selector and a token."""
LEAST_GAS = 35_000
"""Gas under which no sweep comes: the transaction, the lock, a transfer to an account with a balance."""

_BALANCE_OF = keccak(b"balanceOf(address)")[:4]
_ETHER_OF = keccak(b"getEthBalance(address)")[:4]
_PAD = bytes(12)


@dataclass(frozen=True, slots=True)
class Balance:
    """A token on the contract: all of it, what the owner keeps there, and dollars per whole token.

    `price` is None where no market prices it.
    """

    token: Token
    amount: int
    kept: int
    price: Usd | None

    @property
    def loose(self) -> int:
        """Return what a sweep would send (liquidator.vy: sweep)."""
        return max(self.amount - self.kept, 0)

    @property
    def value_usd_down(self) -> Usd:
        """Return what a sweep would send in dollars; 0 without a price."""
        return Usd(mul_div_down(self.loose, self.price or 0, 10**self.token.decimals))


def native(symbol: str = "native coin") -> Token:
    """Return the native coin as the contract names it: the zero address."""
    return Token(ZERO_ADDRESS, symbol, 18)


def balance_calls(
    contract: Address, multicall: Address, tokens: Sequence[Token]
) -> tuple[Call, ...]:
    """Return the reads of each token's balance and kept amount, two for each, in order."""
    found = []
    for token in tokens:
        if token.address == ZERO_ADDRESS:
            found.append(Call(multicall, _ETHER_OF + _PAD + contract))
        else:
            found.append(balance_of(token.address, contract))
        found.append(Call(contract, encode_kept(token.address)))
    return tuple(found)


def balance_of(token: Address, holder: Address) -> Call:
    """Return the read of what somebody holds of a token."""
    return Call(token, _BALANCE_OF + _PAD + holder)


def read_balances(
    tokens: Sequence[Token], results: Sequence[CallResult], prices: Mapping[Address, Usd]
) -> tuple[list[Balance], list[Token]]:
    """Return the balances `balance_calls` asked for, and the tokens that did not tell theirs.

    Anybody may list a token that answers nothing. Raises `TransientError` when the native coin is one.
    """
    found, unread = [], []
    for index, token in enumerate(tokens):
        try:
            amount, kept = (read_word(result, token.symbol) for result in results[2 * index :][:2])
        except TransientError:
            if token.address == ZERO_ADDRESS:
                raise
            unread.append(token)
            continue
        found.append(Balance(token, amount, kept, prices.get(token.address)))
    return found, unread


def read_word(result: CallResult, what: str) -> int:
    """Return one integer a contract told; raise `TransientError` when it did not."""
    if not result.ok or len(result.data) < 32:
        raise TransientError(f"{what} on the contract was not read")
    return int.from_bytes(result.data[:32], "big")


def usd_prices(
    markets: Iterable[Prices], tokens: Iterable[Token], wrapped: Address
) -> dict[Address, Usd]:
    """Return dollars per whole token as the first market prices it; the native coin as its wrapped."""
    known = list(markets)
    found: dict[Address, Usd] = {}
    for token in tokens:
        asset = wrapped if token.address == ZERO_ADDRESS else token.address
        for prices in known:
            value = prices.get(asset)
            if value:
                found[token.address] = prices.usd(value)
                break
    return found


def beside_gas_up(data_fee: DataFee | None, calldata: int, gas: int, base_fee: Wei) -> Wei:
    """Return what a rollup takes from the balance beside the gas of a call with so much calldata.

    0 where it takes it as gas: a node's estimate holds it already.
    """
    size = transaction_size(calldata)
    if data_fee is None or data_fee.gas_up(size, base_fee):
        return Wei(0)
    return data_fee.wei_up(size, gas)


def gas_usd_up(gas: int, gas_price: int, native_price: Usd, beside: int = 0) -> Usd:
    """Return what gas and what is paid `beside` it cost in dollars, rounded up."""
    return Usd(mul_div_up(gas * gas_price + beside, native_price, 10**18))


def promising(
    balances: Iterable[Balance], multiple: int, gas_price: int, native_price: Usd, beside: int = 0
) -> list[Balance]:
    """Return what could be worth more than `multiple` times what a sweep costs, the most first."""
    least = multiple * gas_usd_up(LEAST_GAS, gas_price, native_price, beside)
    found = [each for each in balances if each.value_usd_down > least]
    return sorted(found, key=lambda each: (-each.value_usd_down, each.token.address))


def is_worth(
    balance: Balance,
    gas: int,
    multiple: int,
    gas_price: int,
    native_price: Usd,
    beside: int = 0,
) -> bool:
    """Whether a balance is worth more than `multiple` times what sending it costs."""
    return balance.value_usd_down > multiple * gas_usd_up(gas, gas_price, native_price, beside)


def total_usd_down(balances: Iterable[Balance]) -> Usd:
    """Return what could be sent altogether, in dollars."""
    return Usd(sum(each.value_usd_down for each in balances))


def sweep_plan(
    name: str,
    chain: str,
    contract: Address,
    head: Head,
    at: NextBlock,
    balance: Balance,
    gas: int,
    fees: Fees,
    native_price: Usd,
    deadline: int,
    beside: Wei = Wei(0),
) -> Plan:
    """Return the transaction that sends a token's loose balance to the treasury.

    After `deadline` its nonce is taken back; the contract itself sets none. `beside` is what a rollup
    takes beside the gas.
    """
    gas_cost = Wei(gas * fees.price(at.base_fee) + beside)
    prices = {ZERO_ADDRESS: native_price}
    if balance.price is not None:
        prices[balance.token.address] = balance.price
    return Plan(
        id=name,
        chain=chain,
        head=head,
        next_block=at,
        quotes=(),
        bid=Bid(fees.priority_fee, fees.max_fee, deadline),
        contract=contract,
        calldata=encode_sweep(balance.token.address),
        gas_limit=gas * 5 // 4,
        gas=gas,
        gas_cost=gas_cost,
        gross_usd=Usd(0),
        net_usd=Usd(-gas_usd_up(gas, fees.price(at.base_fee), native_price, beside)),
        repaid_usd=Usd(0),
        prices=prices,
        sweep=Holding(balance.token, balance.loose),
        data_fee=beside,
    )
