"""Look at what a contract holds, and sweep it, without a running keeper."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

from eth_utils.address import to_checksum_address

from keeper.app.breakers import make_limits
from keeper.app.clock import SystemClock
from keeper.app.endpoints import open_endpoints
from keeper.app.line import new_plan_id
from keeper.app.stock import Stock, read_ether, take_stock
from keeper.app.treasury import PATIENCE_BLOCKS
from keeper.app.watched import Watched
from keeper.chain.data_fee import data_fee_calls, read_data_fee
from keeper.chain.parse import quantity
from keeper.chain.reader import ChainReader
from keeper.config import Chain, Settings
from keeper.errors import ConfigError, RpcError, TransientError
from keeper.execution.answer import REASONS, classify
from keeper.execution.bump import first_down
from keeper.execution.gas import fees as choose_fees
from keeper.execution.settlement import included, reverted
from keeper.journal.read import JournalReader
from keeper.journal.sqlite import DAY, SqliteJournal
from keeper.planning.converting import Rule, has_no_rules, read_rule, rule_calls
from keeper.planning.decoding import decode_receipt_logs
from keeper.planning.owner_calls import encode_sweep
from keeper.planning.treasury import (
    SWEEP_CALLDATA,
    Balance,
    beside_gas_up,
    gas_usd_up,
    native,
    sweep_plan,
    usd_prices,
)
from keeper.ports import Rpc, Signer
from keeper.risk import Risk
from keeper.types import (
    Call,
    CallResult,
    Dropped,
    Fees,
    Head,
    Included,
    Plan,
    Prices,
    Signed,
    Token,
)
from keeper.units import ZERO_ADDRESS, Address, Hash, Usd, Wei, to_hex

_SYMBOL = bytes.fromhex("95d89b41")
_DECIMALS = bytes.fromhex("313ce567")
_POLL = 0.5
_LOOKS = 360


@dataclass(frozen=True, slots=True)
class Row:
    """A token the contract holds; `gas` is None where a sweep would fail, for the reason in `why`.

    `beside` is what a rollup takes beside the gas, part of the cost.
    """

    balance: Balance
    gas: int | None
    cost_usd: Usd | None
    why: str = ""
    beside: Wei = Wei(0)

    @property
    def is_worth(self) -> bool:
        """Whether it is worth more than the gas of sending it; without a price it is not known to be."""
        return self.cost_usd is not None and self.balance.value_usd_down > self.cost_usd


@dataclass(frozen=True, slots=True)
class Till:
    """One chain's contract at one head: what it holds, and what sending that away costs.

    `wallets` are all of the chain's with their native coin; `stock.operator` is the poorest's, whom a
    refill is for.
    """

    name: str
    chain: Chain
    contract: Address
    rpc: Rpc
    head: Head
    stock: Stock
    fees: Fees
    rows: tuple[Row, ...]
    native_price: Usd
    wallets: Mapping[Address, Wei]

    @property
    def richest(self) -> Address:
        """Return the wallet that can best pay for gas, the first among equals."""
        return max(self.wallets, key=lambda wallet: self.wallets[wallet])

    @classmethod
    async def open(
        cls,
        settings: Settings,
        name: str,
        operators: Sequence[Address],
        named: Sequence[str],
        stack: AsyncExitStack,
    ) -> Self:
        """Read everything once; `named` are symbols or addresses of the only tokens to look at.

        Raises `ConfigError` for an unknown one.
        """
        chain = settings.chains[name]
        if chain.contract is None:
            raise ConfigError("contract is not configured", "`keeper contract deploy`, then set it")
        connection = await open_endpoints(chain, stack)
        reader = ChainReader(connection.rpc, chain.multicall)
        watched = await Watched.discover(reader, name, chain)
        head = await reader.head()
        markets: list[Prices] = []
        for market in watched.markets.values():
            oracle = market.oracle
            await oracle.bootstrap(reader, head)
            results = await reader.multicall(oracle.calls(), head.hash)
            markets.append(oracle.prices(results, head))
        known = list(dict.fromkeys(asset for prices in markets for asset in prices.values))
        extra = [Address(bytes.fromhex(text[2:])) for text in named if text.startswith("0x")]
        addresses = [*known, *(each for each in extra if each not in known)]
        tokens = _chosen(await _tokens(reader, addresses, head.hash), named)
        prices = usd_prices(markets, (native(), *tokens), watched.coin)
        price = prices.get(ZERO_ADDRESS)
        inclusion = chain.inclusion_model
        at = head.next_block(chain.block_time, inclusion)
        told = await reader.multicall(data_fee_calls(inclusion), head.hash)
        data_fee = read_data_fee(inclusion, told)
        fees = choose_fees(at.base_fee, chain.fees.priority_fee, first_down(chain.fees.max_fee))
        if price is None or fees is None:
            raise TransientError(
                "the native coin has no price now, of no market that tells one before it is loaded"
                if price is None
                else "the base fee is too near fees.max_fee_gwei, or above it: wait, or raise it"
            )
        wallets = await read_ether(reader, chain.multicall, operators, head.hash)
        operator = max(wallets, key=lambda wallet: wallets[wallet])
        stock = await take_stock(
            reader,
            chain.contract,
            chain.multicall,
            min(wallets, key=lambda wallet: wallets[wallet]),
            tokens,
            prices,
            head.timestamp,
            head.hash,
        )
        if named and stock.unread:
            mute = ", ".join(token.symbol for token in stock.unread)
            raise ConfigError(f"{mute} does not tell what the contract holds")
        rows = []
        for balance in stock.balances:
            wanted = not named or balance.token.address != ZERO_ADDRESS or "native" in named
            if balance.amount and wanted:
                gas, why = await _estimate(connection.rpc, operator, chain.contract, balance)
                beside = beside_gas_up(data_fee, SWEEP_CALLDATA, gas or 0, at.base_fee)
                gas_price = fees.price(at.base_fee)
                cost = None if gas is None else gas_usd_up(gas, gas_price, price, beside)
                rows.append(Row(balance, gas, cost, why, beside))
        rows.sort(key=lambda row: -row.balance.value_usd_down)
        return cls(
            name=name,
            chain=chain,
            contract=chain.contract,
            rpc=connection.rpc,
            head=head,
            stock=stock,
            fees=fees,
            rows=tuple(rows),
            native_price=price,
            wallets=wallets,
        )

    def plans(self, named: Sequence[str]) -> list[Plan]:
        """Return a transaction for each token worth its gas, and for each named one without a price."""
        at = self.head.next_block(self.chain.block_time, self.chain.inclusion_model)
        return [
            sweep_plan(
                new_plan_id(),
                self.name,
                self.contract,
                self.head,
                at,
                row.balance,
                row.gas,
                self.fees,
                self.native_price,
                self.head.timestamp + PATIENCE_BLOCKS * self.chain.block_time,
                row.beside,
            )
            for row in self.rows
            if row.gas is not None
            and (row.is_worth or (named and row.balance.price is None and row.balance.loose))
        ]


async def chosen_rules(till: Till, receive: str) -> tuple[Token, list[tuple[Balance, Rule]]]:
    """Return the token profit is sold for, and each other balance with the owner's rule for it.

    Raises `ConfigError` for a contract that has no rules.
    """
    reader = ChainReader(till.rpc, till.chain.multicall)
    known = [each.token for each in till.stock.balances if each.token.address != ZERO_ADDRESS]
    target = named_token(known, receive)
    rest = [
        balance
        for balance in till.stock.balances
        if balance.loose and balance.token.address not in {ZERO_ADDRESS, target.address}
    ]
    calls = rule_calls(till.contract, [balance.token for balance in rest], target)
    answers = await reader.multicall(calls, till.head.hash)
    if any(map(has_no_rules, answers)):
        raise ConfigError(
            "the contract cannot sell", "`keeper contract deploy` deploys one that can"
        )
    rules = [read_rule(answer) for answer in answers]
    return target, list(zip(rest, rules, strict=True))


async def known_tokens(
    settings: Settings, name: str, named: Sequence[str], stack: AsyncExitStack
) -> list[Token]:
    """Return the tokens some symbols or addresses name; raise `ConfigError` for an unknown one."""
    chain = settings.chains[name]
    connection = await open_endpoints(chain, stack)
    reader = ChainReader(connection.rpc, chain.multicall)
    watched = await Watched.discover(reader, name, chain)
    head = await reader.head()
    known: list[Address] = []
    for market in watched.markets.values():
        await market.oracle.bootstrap(reader, head)
        results = await reader.multicall(market.oracle.calls(), head.hash)
        known += market.oracle.prices(results, head).values
    known += [Address(bytes.fromhex(text[2:])) for text in named if text.startswith("0x")]
    tokens = await _tokens(reader, list(dict.fromkeys(known)), head.hash)
    return [named_token(tokens, text) for text in named]


def named_token(tokens: Sequence[Token], text: str) -> Token:
    """Return the one token a symbol or address names; raise `ConfigError` for none or several."""
    if text == "native":
        raise ConfigError("the native coin cannot be sold or bought", "name its wrapped token")
    (found,) = _chosen(tokens, [text])
    return found


async def send_sweeps(
    till: Till, plans: Sequence[Plan], settings: Settings, signer: Signer, journal: SqliteJournal
) -> list[Included]:
    """Sign, journal, send and follow each sweep; nothing is sent that the limits forbid.

    The caller holds the home's lock. What is not mined in time is taken up by the next start.
    """
    clock = SystemClock()
    risk = Risk(till.name, make_limits(settings, till.chain.block_time), clock)
    told = JournalReader(settings.journal_file)
    open_ones = await journal.pending()
    risk.restore(told.spent(clock.time() - DAY), open_ones, told.breakers())
    mine = (till.name, signer.address)
    if any((signed.plan.chain, signed.sender) == mine for signed in open_ones):
        raise TransientError("a transaction of this wallet is still open: `keeper run` settles it")
    done = []
    for plan in plans:
        refusal = risk.admit(plan)
        if refusal is not None:
            raise TransientError(f"not sent: {refusal.detail}")
        signed = await _sign(till, plan, signer)
        await journal.planned(plan)
        await journal.signed(signed)
        await _hand_over(till.rpc, signed, journal)
        await journal.sent(signed, None)
        receipt = await _receipt(till.rpc, signed.hash)
        if quantity(receipt["status"]) != 1:
            failed = reverted(plan, receipt, "the sweep failed on the chain")
            await journal.settled(failed)
            raise TransientError(f"{to_hex(signed.hash)} was reverted")
        block = await till.rpc.request("eth_getBlockByHash", [receipt["blockHash"], False])
        outcome = included(plan, receipt, quantity(block["timestamp"]), decode_receipt_logs).receipt
        await journal.settled(outcome)
        risk.settle(outcome)
        done.append(outcome)
    return done


async def _hand_over(rpc: Rpc, signed: Signed, journal: SqliteJournal) -> None:
    """Send once; what the node clearly refuses ends here, what it may hold is looked for on the chain."""
    try:
        await rpc.request("eth_sendRawTransaction", [to_hex(signed.raw)])
    except TransientError as error:
        if classify(error) in REASONS:
            await journal.settled(Dropped(signed.plan.id, signed.hash, str(error)))
            raise TransientError(f"not sent: {error}") from error


async def _sign(till: Till, plan: Plan, signer: Signer) -> Signed:
    account = to_hex(signer.address)
    nonce = quantity(await till.rpc.request("eth_getTransactionCount", [account, "pending"]))
    balance = quantity(await till.rpc.request("eth_getBalance", [account, "latest"]))
    if balance < plan.worst_cost:
        raise ConfigError("the wallet cannot pay for gas", "send it native coin")
    raw, tx_hash = await signer.sign(
        {
            "chainId": till.chain.chain_id,
            "nonce": nonce,
            "maxPriorityFeePerGas": plan.fees.priority_fee,
            "maxFeePerGas": plan.fees.max_fee,
            "gas": plan.gas_limit,
            "to": plan.contract,
            "value": 0,
            "data": plan.calldata,
        }
    )
    return Signed(plan, signer.address, nonce, raw, tx_hash)


async def _receipt(rpc: Rpc, tx_hash: Hash) -> Mapping[str, Any]:
    for _ in range(_LOOKS):
        receipt: Mapping[str, Any] | None = await rpc.request(
            "eth_getTransactionReceipt", [to_hex(tx_hash)]
        )
        if receipt is not None:
            return receipt
        await asyncio.sleep(_POLL)
    raise TransientError(f"{to_hex(tx_hash)} is not in a block after {_LOOKS * _POLL:g} s")


async def _estimate(
    rpc: Rpc, sender: Address, contract: Address, balance: Balance
) -> tuple[int | None, str]:
    """Return the gas of a sweep, or why it would fail."""
    if not balance.loose:
        return None, "all of it is kept by the owner"
    request = {
        "from": to_hex(sender),
        "to": to_hex(contract),
        "data": to_hex(encode_sweep(balance.token.address)),
    }
    try:
        return quantity(await rpc.request("eth_estimateGas", [request, "latest"])), ""
    except RpcError as error:
        return None, error.message


async def _tokens(reader: ChainReader, addresses: Sequence[Address], block: Hash) -> list[Token]:
    """Return tokens by what they tell of themselves; raise `ConfigError` for what is none."""
    calls = [Call(each, what) for each in addresses for what in (_SYMBOL, _DECIMALS)]
    results = await reader.multicall(calls, block)
    found = []
    for index, token in enumerate(addresses):
        symbol, decimals = results[2 * index : 2 * index + 2]
        shown = to_checksum_address(token)
        if not decimals.ok or len(decimals.data) != 32 or decimals.data[:31].strip(b"\0"):
            raise ConfigError(f"{shown} is no token", "check the address")
        found.append(Token(token, _text(symbol) or shown, decimals.data[31]))
    return found


def _text(result: CallResult) -> str:
    """Read a symbol, a string or 32 bytes; empty when there is none."""
    data = result.data
    if not result.ok:
        return ""
    if len(data) >= 64:
        size = int.from_bytes(data[32:64], "big")
        data = data[64 : 64 + size]
    return data.rstrip(b"\0").decode("utf-8", "replace")


def _chosen(tokens: Sequence[Token], named: Sequence[str]) -> list[Token]:
    if not named:
        return list(tokens)
    found = []
    for text in named:
        if text == "native":
            continue
        matching = [
            token
            for token in tokens
            if text.lower() in {token.symbol.lower(), to_hex(token.address)}
        ]
        if not matching:
            raise ConfigError(f"no market here has a token {text!r}", "name it by its address")
        if len(matching) > 1:
            raise ConfigError(f"{text} names several tokens", "name it by its address")
        found.extend(matching)
    return found
