"""Maker's auctions on the local chain, as stand-ins: they say so in their names, and prove nothing of Maker."""

from dataclasses import dataclass
from functools import cache

from eth_abi.abi import encode
from eth_hash.auto import keccak

from keeper.devnet import Devnet
from keeper.devnet.accounts import Cast
from keeper.devnet.chain import Mined, Transaction
from keeper.devnet.compile_contracts import STAND_INS
from keeper.devnet.operator import Operator, deploy_operator
from keeper.planning import owner_calls
from keeper.planning.batch import Batch, Group, Item, Protocol, Template
from keeper.planning.decoding import RunEvent, decode_receipt_logs
from keeper.planning.encoding import encode_run
from keeper.protocols.maker_clip.dutch import Auction, Stairstep
from keeper.types import Log
from keeper.units import MAX_UINT256, RAY, WAD, Address, Hash

ILK = b"WETH-A".ljust(32, b"\0")
RAD = WAD * RAY
FEE = 3_000
FAR = 2**40
BARK = "bark(bytes32,address,address)"
REDO = "redo(uint256,address)"
TAKE = "take(uint256,uint256,uint256,address,bytes)"
HOPE = "hope(address)"
EXIT = "exit_dai(address,uint256)"


@cache
def stand_in(name: str) -> bytes:
    """Return the creation code of a stand-in."""
    import vyper  # type: ignore[import-untyped]

    source = (STAND_INS / f"{name}.vy").read_text()
    output = vyper.compile_code(source, output_formats=["bytecode"])
    return bytes.fromhex(output["bytecode"].removeprefix("0x"))


@dataclass(frozen=True, slots=True)
class Maker:
    """The stand-in of all of Maker for one collateral, an exchange callee, and who liquidates."""

    net: Devnet
    address: Address
    callee: Address
    operator: Operator

    @property
    def weth(self) -> Address:
        return Address(self.net.tokens["WETH"].address)

    @property
    def dai(self) -> Address:
        return Address(self.net.tokens["DAI"].address)

    def open_urn(self, urn: bytes, ink: int, art: int) -> None:
        """Open an urn that owes so much (wad) on so much collateral (wad)."""
        self.net.give("WETH", Cast.LENDER, ink)
        self.net.send(Cast.LENDER, self.weth, "approve(address,uint256)", [self.address, ink])
        self.net.send(
            Cast.LENDER, self.address, "frob_for(address,uint256,uint256)", [urn, ink, art]
        )

    def poke(self, price: int) -> None:
        """Set the oracle's price, in ray."""
        self.net.send(Cast.DEPLOYER, self.address, "poke(uint256)", [price])

    def auction(self, number: int) -> Auction:
        """Return an auction as the contract holds it."""
        words = self.net.call(
            self.address,
            "sales(uint256)",
            [number],
            ["uint256", "uint256", "uint256", "address", "uint256", "uint256"],
        )
        _, tab, lot, _, tic, top = words
        names = ("cut()", "step()", "tail()", "cusp()", "chost()")
        cut, step, tail, cusp, chost = (self.net.call(self.address, name) for name in names)
        return Auction(lot, tab, tic, top, Stairstep(cut, step), tail, cusp, chost)

    def group(self, template: Template, items: tuple[Item, ...], gas: int = 700_000) -> Group:
        """Return a group of calls that are told by the dollars they bring."""
        return Group(
            pool=self.address,
            collateral=self.dai,
            debt=self.dai,
            items=items,
            actions=(),
            item_gas=gas,
            group_gas=len(items) * gas + 400_000,
            protocol=Protocol.CALL,
            template=template,
        )

    def hoping(self) -> Group:
        """Return the call that lets auctions move the contract's internal dollars; once is enough."""
        return self.told_by_nothing(HOPE, self.address.rjust(32, b"\0"))

    def barking(self, urn: bytes) -> Group:
        """Return the call that starts an auction, its reward internal dollars of the contract."""
        template = Template(
            selector(BARK) + ILK,
            closing=self.operator.contract.rjust(32, b"\0"),
            amount=False,
            gainless=True,
        )
        return self.group(template, (Item(Address(urn), 0),))

    def cashing(self, amount: int) -> Group:
        """Return the call that turns internal dollars into tokens."""
        words = encode(["address", "uint256"], [self.operator.contract, amount])
        template = Template(selector(EXIT), closing=words, borrower=False, amount=False)
        return self.group(template, (Item(self.address, 0),))

    def redoing(self, number: int) -> Group:
        """Return the call that starts an auction anew."""
        words = encode(["uint256", "address"], [number, self.operator.contract])
        return self.told_by_nothing(REDO, words)

    def taking(self, number: int, price: int, least: int) -> Group:
        """Return the call that takes all through the callee, whose rest comes to the contract."""
        middle = encode(["uint256", "uint256", "address"], [MAX_UINT256, price, self.callee])
        told = encode(["address"], [self.operator.contract])
        closing = (160).to_bytes(32, "big") + len(told).to_bytes(32, "big") + told
        template = Template(selector(TAKE), middle, closing, amount=False)
        item = Item(Address(number.to_bytes(20, "big")), 0, minimum_gain=least)
        return self.group(template, (item,))

    def told_by_nothing(self, signature: str, words: bytes) -> Group:
        template = Template(
            selector(signature), closing=words, borrower=False, amount=False, gainless=True
        )
        return self.group(template, (Item(self.address, 0),))

    def run(self, *groups: Group, check: bool = True) -> Mined:
        """Send one batch of these groups."""
        batch = Batch(deadline=FAR, tokens=(self.dai,), groups=groups)
        operator = self.operator
        sent = Transaction(
            operator.wallet.address, operator.contract, encode_run(batch), 0, 6_000_000
        )
        return self.net.chain.send_all([sent], check)[0]

    def results(self, mined: Mined) -> RunEvent:
        """Return what a run told in its receipt."""
        logs = [
            Log(
                Address(bytes.fromhex(raw["address"][2:])),
                tuple(bytes.fromhex(topic[2:]) for topic in raw["topics"]),
                bytes.fromhex(raw["data"][2:]),
                0,
                Hash(bytes(32)),
                place,
            )
            for place, raw in enumerate(mined.logs)
        ]
        (event,) = decode_receipt_logs(logs, self.operator.contract)
        return event


def selector(signature: str) -> bytes:
    """Return the selector of a function."""
    return keccak(signature.encode())[:4]


def deploy_maker(net: Devnet, price: int) -> Maker:
    """Return the stand-in with the collateral at a price in ray, and all an owner would allow."""
    weth, dai = net.tokens["WETH"].address, net.tokens["DAI"].address
    operator = deploy_operator(net)
    code = stand_in("maker_stand_in")
    maker = net.deploy(code + encode(["address", "address", "uint256"], [weth, dai, price]))
    types = ["address", "address", "address", "address", "uint24"]
    callee = net.deploy(
        stand_in("callee_stand_in") + encode(types, [net.uniswap.router, maker, weth, dai, FEE])
    )
    net.give("DAI", maker, 1_000_000 * WAD)
    for signature in (BARK, REDO, TAKE, HOPE, EXIT):
        data = owner_calls.encode_allow(Address(maker), selector(signature))
        net.chain.send_all([Transaction(operator.owner, operator.contract, data, 0, 300_000)])
    return Maker(net, Address(maker), Address(callee), operator)
