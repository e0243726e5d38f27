"""Maker's auctions, as a stand-in that says so: it follows the formulas, and proves nothing of Maker."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from eth_abi.abi import encode
from eth_hash.auto import keccak

from keeper.devnet.accounts import Cast
from keeper.devnet.calls import calldata
from keeper.devnet.chain import Transaction
from keeper.devnet.devnet import Devnet
from keeper.devnet.lending.lending import SIZE_USD, USD, account, draws
from keeper.devnet.operator import Operator
from keeper.devnet.prices import POST_FEE
from keeper.devnet.toolchain import Progress
from keeper.planning.batch import Batch, Group, Item, Protocol, Template
from keeper.planning.encoding import encode_run
from keeper.units import RAY, WAD, Address, to_hex

MOST_URNS = 60
"""How many auctions the stand-in runs at once, nearly."""
FEE = 3_000
"""Of the pool of the coin and DAI that the callee sells through."""
BARK_FEE = POST_FEE - 10**9
ILK = b"WETH-A".ljust(32, b"\0")
_LEAST_USD = 12_000
"""Whole USD of collateral whose debt is over the vat's dust."""
_STOCK = 20_000_000
_FAR = 2**40
_CONSENT_GAS = 1_000_000
_MILLION = 1_000_000
_TO_RAY = RAY // USD
_STAND_INS = Path(__file__).parent.parent / "stand_ins" / "artifacts.json"


class MakerLending:
    """Urns of the coin; others start their auctions, and the keeper takes them."""

    protocol: ClassVar[str] = "maker-clip"
    contracts: ClassVar[str] = "a stand-in for Maker's auctions"

    def __init__(self, net: Devnet, operator: Operator, address: bytes, callee: bytes) -> None:
        self.market = "maker"
        self._net = net
        self._operator = operator
        self._address = address
        self._callee = callee
        self._urns: dict[bytes, tuple[int, int]] = {}
        self._told = 0

    @property
    def accounts(self) -> Sequence[bytes]:
        """Return who was opened; a keeper names the auctions instead."""
        return list(self._urns)

    @classmethod
    def deployed(cls, net: Devnet, operator: Operator, progress: Progress) -> Self:
        """Return the stand-in at the chain's price of the coin, with a stock of dollars."""
        del progress
        artifacts = json.loads(_STAND_INS.read_text(encoding="utf-8"))

        def code(name: str, types: Sequence[str], values: Sequence[object]) -> bytes:
            return bytes.fromhex(artifacts[name]["bytecode"][2:]) + encode(list(types), values)

        pair = [net.tokens["WETH"].address, net.tokens["DAI"].address]
        price = net.price("WETH") * _TO_RAY
        types = ["address", "address", "uint256"]
        maker = net.deploy(code("maker_stand_in", types, [*pair, price]))
        types = ["address", "address", "address", "address", "uint24"]
        values = [net.uniswap.router, maker, *pair, FEE]
        callee = net.deploy(code("callee_stand_in", types, values))
        net.give("DAI", maker, _STOCK * WAD)
        return cls(net, operator, maker, callee)

    def table(self) -> str:
        """Return the auctions, taken through the callee, which sends the rest to the contract."""
        tokens = self._net.tokens
        return f"""
[chains.devnet.markets.{self.market}]
protocol = "{self.protocol}"
clip = "{to_hex(self._address)}"
vat = "{to_hex(self._address)}"
callee = "{to_hex(self._callee)}"
data = ["{to_hex(self._operator.contract)}"]
collateral = "{to_hex(tokens["WETH"].address)}"
debt = "{to_hex(tokens["DAI"].address)}"
feed = "{to_hex(tokens["WETH"].feed)}"
survival_percent = 50
slippage_bps = 150
"""

    def prepare(self) -> None:
        """Have the contract consent, once, that auctions move its internal dollars."""
        told = Template(
            _selector("hope(address)"),
            closing=self._address.rjust(32, b"\0"),
            borrower=False,
            amount=False,
            gainless=True,
        )
        dai = Address(self._net.tokens["DAI"].address)
        group = Group(
            pool=Address(self._address),
            collateral=dai,
            debt=dai,
            items=(Item(Address(self._address), 0),),
            actions=(),
            item_gas=_CONSENT_GAS // 2,
            group_gas=_CONSENT_GAS,
            protocol=Protocol.CALL,
            template=told,
        )
        data = encode_run(Batch(deadline=_FAR, tokens=(dai,), groups=(group,)))
        wallet, contract = self._operator.wallet.address, self._operator.contract
        self._net.chain.send_all([Transaction(wallet, contract, data)])

    def open(self, count: int, seed: int) -> None:
        """Open urns, as many as auctions can run at once."""
        net, price = self._net, self._net.price("WETH")
        urns = {}
        for number, (health, size) in enumerate(draws(min(count, MOST_URNS), seed)):
            held = max(size, _LEAST_USD if size < SIZE_USD[0] else size) * USD * WAD // price
            most = held * price // USD * 10 // 15
            urns[account(self.protocol, number)] = (
                held,
                most * _MILLION // round(health * _MILLION),
            )
        total = sum(held for held, _ in urns.values())
        net.give("WETH", Cast.LENDER, total)
        weth, frob = net.tokens["WETH"].address, "frob_for(address,uint256,uint256)"
        net.send(Cast.LENDER, weth, "approve(address,uint256)", [self._address, total])
        net.chain.send_all(
            [
                Transaction(Cast.LENDER, self._address, calldata(frob, [urn, held, owed]))
                for urn, (held, owed) in urns.items()
            ]
        )
        self._urns = urns

    def put_prices(self, prices: Mapping[str, int], arbitrage_fee: int) -> None:
        """Put the oracle's price, and a rival's start of every auction that follows from it."""
        del arbitrage_fee
        price, chain = prices["WETH"] * _TO_RAY, self._net.chain
        if price == self._told:
            return
        self._told = price
        poke = calldata("poke(uint256)", [price])
        chain.put(Transaction(Cast.DEPLOYER, self._address, poke, max_fee=POST_FEE))
        spot = price * 10 // 15
        calls = [(self._address, "urns(address)", [urn]) for urn in self._urns]
        words = chain.call_many(calls, ["uint256"] * 2, "latest")
        for urn, (held, owed) in zip(self._urns, words, strict=True):
            if held * spot < owed * RAY:
                bark = calldata("bark(bytes32,address,address)", [ILK, urn, Cast.RIVAL])
                chain.put(Transaction(Cast.RIVAL, self._address, bark, max_fee=BARK_FEE))

    def rewards(self) -> dict[bytes, int]:
        """Return what the lots of running auctions are worth above their prices, by the feed."""
        chain, price, names = self._net.chain, self._net.price("WETH"), self.waiting()
        calls = [
            (self._address, "status(uint256)", [int.from_bytes(name, "big")]) for name in names
        ]
        words = chain.call_many(calls, ["bool", "uint256", "uint256", "uint256"], "latest")
        found = {}
        for name, (_, asked, lot, tab) in zip(names, words, strict=True):
            owed = min(tab, lot * asked)
            gain = owed // asked * price // WAD - owed // RAY * USD // WAD
            found[name] = max(gain, 0)
        return found

    def own_tokens(self) -> Sequence[bytes]:
        """Return none."""
        return ()

    def waiting(self) -> Sequence[bytes]:
        """Return the auctions that run, at whatever price."""
        count = self._net.call(self._address, "count()")
        calls = [(self._address, "active(uint256)", [place]) for place in range(count)]
        numbers = self._net.chain.call_many(calls, ["uint256"], "latest")
        return [number.to_bytes(20, "big") for number in numbers]


def _selector(signature: str) -> bytes:
    return keccak(signature.encode())[:4]
