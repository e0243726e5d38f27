"""A deployed liquidator with the permissions an owner would give, and batches for it."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from keeper.contracts import liquidator
from keeper.devnet import Devnet, Market
from keeper.devnet.chain import Mined, Transaction
from keeper.devnet.rpc import Rpc
from keeper.errors import RpcError
from keeper.planning import owner_calls
from keeper.planning.encoding import (
    Batch,
    Check,
    Fund,
    FundKind,
    Group,
    Item,
    RunEvent,
    RunResult,
    Swap,
    decode_receipt_logs,
    decode_run,
    encode_run,
    explain_reason,
)
from keeper.types import Log
from keeper.units import Address, Hash

POOL_CODE_HASH = bytes.fromhex("e34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54")
TX_GAS = 16_000_000
ITEM_GAS = 600_000
FAR = 2**40


@dataclass
class Stage:
    """One liquidator on the local chain."""

    net: Devnet
    address: Address
    owner: bytes
    operator: bytes
    treasury: bytes
    market: Market = field(init=False)

    def __post_init__(self) -> None:
        self.market = self.net.market

    @property
    def rpc(self) -> Rpc:
        return self.net.rpc

    def token(self, symbol: str) -> Address:
        return Address(self.net.tokens[symbol].address)

    def by_owner(self, data: bytes, check: bool = True) -> Mined:
        return self.send(data, self.owner, check=check)

    def send(
        self, data: bytes, sender: bytes, *, gas: int = TX_GAS, check: bool = True, max_fee: int = 0
    ) -> Mined:
        fee = {"max_fee": max_fee} if max_fee else {}
        transaction = Transaction(sender, self.address, data, gas=gas, **fee)
        return self.net.chain.send_all([transaction], check)[0]

    def run(
        self, batch: Batch, *, gas: int = TX_GAS, sender: bytes | None = None, check: bool = True
    ) -> Mined:
        return self.send(encode_run(batch), sender or self.operator, gas=gas, check=check)

    def simulate(
        self, batch: Batch, *, gas: int = TX_GAS, sender: bytes | None = None
    ) -> RunResult:
        """Return what `run` would; raises RpcError with the revert bytes."""
        return decode_run(self.ask(encode_run(batch), sender or self.operator, gas=gas))

    def ask(
        self, data: bytes, sender: bytes, *, gas: int = TX_GAS, to: bytes | None = None
    ) -> bytes:
        request = {
            "from": "0x" + sender.hex(),
            "to": "0x" + (to or self.address).hex(),
            "data": "0x" + data.hex(),
            "gas": hex(gas),
        }
        return bytes.fromhex(self.rpc("eth_call", request, "latest")[2:])

    def events(self, mined: Mined) -> tuple[RunEvent, ...]:
        """Return the runs a receipt tells of."""
        logs = [
            Log(
                address=Address(bytes.fromhex(raw["address"][2:])),
                topics=tuple(bytes.fromhex(topic[2:]) for topic in raw["topics"]),
                data=bytes.fromhex(raw["data"][2:]),
                block_number=0,
                block_hash=Hash(bytes(32)),
                index=i,
            )
            for i, raw in enumerate(mined.logs)
        ]
        return decode_receipt_logs(logs, self.address)

    def held(self, symbol: str) -> int:
        return self.net.balance(self.token(symbol), self.address)

    def allowance(self, symbol: str, spender: bytes) -> int:
        args = [self.address, spender]
        return int(self.net.call(self.token(symbol), "allowance(address,address)", args))

    def scaled_debt(self, symbol: str, borrower: bytes) -> int:
        v_token = self.net.tokens[symbol].v_token
        return int(self.net.call(v_token, "scaledBalanceOf(address)", [borrower]))

    def debt(self, symbol: str, borrower: bytes) -> int:
        return self.net.balance(self.net.tokens[symbol].v_token, borrower)

    def item(self, borrower: bytes, debt: str, repay: int, minimum_gain: int = 0) -> Item:
        scaled = self.scaled_debt(debt, borrower)
        return Item(Address(borrower), repay, scaled, minimum_gain)

    def fee_of(self, a: str, b: str) -> int:
        """Return the fee of a pool of two tokens that has the devnet's liquidity."""
        pair = {self.token(a), self.token(b)}
        return min(p.fee for p in self.net.uniswap.pools if {p.token0, p.token1} == pair)

    def swap(self, spend: str, receive: str, **more: Any) -> Swap:
        factory = Address(self.net.uniswap.factory)
        fee = more.pop("fee", None) or self.fee_of(spend, receive)
        return Swap(factory, fee, self.token(spend), self.token(receive), **more)

    def group(
        self, items: list[Item], collateral: str = "WETH", debt: str = "USDC", **more: Any
    ) -> Group:
        more.setdefault("actions", (self.swap(collateral, debt),))
        more.setdefault("item_gas", ITEM_GAS)
        more.setdefault("group_gas", 600_000 + sum(300_000 for _ in items))
        return Group(
            pool=Address(self.market.pool),
            collateral=self.token(collateral),
            debt=self.token(debt),
            items=tuple(items),
            debt_token=Address(self.net.tokens[debt].v_token),
            check=Check.SCALED,
            **more,
        )

    def aave_fund(self, symbol: str, amount: int) -> Fund:
        return Fund(FundKind.AAVE, self.token(symbol), amount, Address(self.market.pool))

    def batch(self, *groups: Group, **more: Any) -> Batch:
        """Return a batch of groups, funded by Aave with what they repay, listing their tokens."""
        tokens: dict[Address, None] = {}
        repays: dict[Address, int] = {}
        for group in groups:
            tokens |= {group.collateral: None, group.debt: None}
            total = sum(item.repay for item in group.items)
            repays[group.debt] = repays.get(group.debt, 0) + total
        pool = Address(self.market.pool)
        funds = tuple(Fund(FundKind.AAVE, debt, total, pool) for debt, total in repays.items())
        more.setdefault("deadline", FAR)
        more.setdefault("funds", funds)
        more["tokens"] = tuple(tokens | dict.fromkeys(more.get("tokens", ())))
        return Batch(groups=groups, **more)


def deploy(net: Devnet) -> Stage:
    """Deploy a liquidator and allow Aave and Uniswap of the main market."""
    users = net.users
    owner, operator, treasury = (users[i].address for i in range(3))
    weth = Address(net.tokens["WETH"].address)
    code = liquidator().creation_code(Address(owner), Address(treasury), weth)
    stage = Stage(net, Address(net.deploy(code)), owner, operator, treasury)
    pool = Address(net.market.pool)
    for data in (
        owner_calls.encode_set_operator(Address(operator), True),
        owner_calls.encode_allow(pool, owner_calls.LIQUIDATION_CALL),
        owner_calls.encode_allow(pool, owner_calls.AAVE_FLASH),
        owner_calls.encode_set_factory(Address(net.uniswap.factory), POOL_CODE_HASH),
    ):
        stage.by_owner(data)
    return stage


def selector(signature: str) -> bytes:
    """Return the first four bytes of a signature's hash."""
    return keccak(signature.encode())[:4]


def packed_call(signature: str, types: list[str], values: list[Any]) -> bytes:
    """Return calldata of a call whose types stand apart from its signature."""
    return selector(signature) + encode(types, values)


def reverts(stage: Stage, batch: Batch, name: str, **options: Any) -> None:
    """Check that `run` reverts as a whole with one of the contract's own errors."""
    with pytest.raises(RpcError) as caught:
        stage.simulate(batch, **options)
    data = caught.value.data or b""
    assert data[:4] == selector(f"{name}()"), explain_reason(data)
