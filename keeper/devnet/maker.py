"""Maker's auctions on the local chain, as stand-ins: they say so in their names, and prove nothing of Maker."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_abi.abi import encode

from keeper.contracts import auctioneer
from keeper.devnet.accounts import Cast
from keeper.devnet.calls import calldata
from keeper.devnet.chain import Transaction
from keeper.devnet.devnet import Devnet
from keeper.units import MAX_UINT256, RAY, WAD, Address, to_hex

ILK = b"WETH-A".ljust(32, b"\0")
RAD = WAD * RAY
VOW = b"\x70" * 20
DUST = 5_000 * RAD
CUT, STEP = 99 * RAY // 100, 90
BARK = "bark(bytes32,address,address)"
REDO = "redo(uint256,address)"
TAKE = "take(uint256,uint256,uint256,address,bytes)"
_FROB = "frob(bytes32,address,address,address,int256,int256)"
_STAND_INS = Path(__file__).parent / "stand_ins" / "artifacts.json"
_STOCK = 20_000_000


@dataclass(frozen=True, slots=True)
class Maker:
    """The stand-ins of Vat, joins, Dog and Clipper for one collateral, and our auctioneer for them.

    `clip` is the Dog too. Prices are in ray; the liquidation ratio is 150 %.
    """

    net: Devnet
    vat: Address
    clip: Address
    calculator: Address
    gem_join: Address
    dollar_join: Address
    auctioneer: Address

    @property
    def weth(self) -> Address:
        """Return the collateral."""
        return Address(self.net.tokens["WETH"].address)

    @property
    def dai(self) -> Address:
        """Return the stablecoin."""
        return Address(self.net.tokens["DAI"].address)

    def open_urns(self, urns: Mapping[bytes, tuple[int, int]]) -> None:
        """Open urns that owe so much on so much collateral (both wad), whatever it is worth."""
        net, chain, who = self.net, self.net.chain, Cast.LENDER
        total = sum(ink for ink, _ in urns.values())
        net.give("WETH", who, total)
        net.send(who, self.weth, "approve(address,uint256)", [self.gem_join, total])
        (_, _, spot, _, _) = net.call(self.vat, "ilks(bytes32)", [ILK], ["uint256"] * 5)
        high = self._filed(MAX_UINT256 >> 128)
        joins = [
            Transaction(who, self.gem_join, calldata("join(address,uint256)", [urn, ink]))
            for urn, (ink, _) in urns.items()
        ]
        frobs = [
            Transaction(urn, self.vat, calldata(_FROB, [ILK, urn, urn, urn, ink, art]))
            for urn, (ink, art) in urns.items()
        ]
        chain.send_all([*joins, high])
        chain.send_all(frobs)
        chain.send_all([self._filed(spot)])

    def _filed(self, spot: int) -> Transaction:
        words = [ILK, b"spot".ljust(32, b"\0"), spot]
        data = calldata("file(bytes32,bytes32,uint256)", words)
        return Transaction(Cast.DEPLOYER, self.vat, data)

    def frob(self, urn: bytes, ink: int, art: int, *, check: bool = True) -> bool:
        """Change an urn as its owner; collateral that comes has to be joined before."""
        args = [ILK, urn, urn, urn, ink, art]
        return self.net.send(urn, self.vat, _FROB, args, check=check).ok

    def poke(self, price: int) -> None:
        """Set the oracle's price, in ray."""
        self.net.send(Cast.DEPLOYER, self.clip, "poke(uint256)", [price])

    def name_of(self, number: int) -> bytes:
        """Return what the keeper calls an auction."""
        return self.clip[:12] + number.to_bytes(8, "big")

    def running(self) -> list[int]:
        """Return the auctions that run."""
        count = self.net.call(self.clip, "count()")
        calls = [(self.clip, "active(uint256)", [place]) for place in range(count)]
        return [int(each) for each in self.net.chain.call_many(calls, ["uint256"], "latest")]

    def statuses(self, numbers: Sequence[int]) -> list[Any]:
        """Return of auctions: whether to be started anew, price (ray), lot (wad), tab (rad)."""
        calls = [(self.clip, "getStatus(uint256)", [each]) for each in numbers]
        types = ["bool", "uint256", "uint256", "uint256"]
        return self.net.chain.call_many(calls, types, "latest")

    def urns(self, owners: Sequence[bytes]) -> list[Any]:
        """Return collateral and debt of urns, both wad."""
        calls = [(self.vat, "urns(bytes32,address)", [ILK, owner]) for owner in owners]
        return self.net.chain.call_many(calls, ["uint256"] * 2, "latest")

    def table(self, name: str, **more: object) -> str:
        """Return the settings of these auctions as a market of this name."""
        lines = {
            "protocol": '"maker-clip"',
            "clip": f'"{to_hex(self.clip)}"',
            "auctioneer": f'"{to_hex(self.auctioneer)}"',
            "feed": f'"{to_hex(self.net.tokens["WETH"].feed)}"',
        } | {key: str(value) for key, value in more.items()}
        body = "\n".join(f"{key} = {value}" for key, value in lines.items())
        return f"\n[chains.devnet.markets.{name}]\n{body}\n"


def deploy_maker(net: Devnet, price: int) -> Maker:
    """Return the stand-ins with the collateral at a price in ray, and an auctioneer."""
    weth, dai = net.tokens["WETH"].address, net.tokens["DAI"].address
    vat = net.deploy(code("vat_stand_in", ["bytes32", "uint256"], [ILK, DUST]))
    gem_join = net.deploy(
        code("gem_join_stand_in", ["address", "bytes32", "address"], [vat, ILK, weth])
    )
    dollar_join = net.deploy(code("dollar_join_stand_in", ["address"] * 2, [vat, dai]))
    calculator = net.deploy(code("stairs_stand_in", ["uint256"] * 2, [CUT, STEP]))
    clip = deploy_clip(net, vat, calculator, price)
    ours = net.deploy(
        auctioneer().creation_code(Address(clip), Address(gem_join), Address(dollar_join))
    )
    net.give("DAI", dollar_join, _STOCK * WAD)
    found = (vat, clip, calculator, gem_join, dollar_join, ours)
    return Maker(net, *map(Address, found))


def deploy_clip(net: Devnet, vat: bytes, calculator: bytes, price: int) -> bytes:
    """Return a Dog and Clipper for the collateral of a Vat."""
    types = ["bytes32", "address", "address", "uint256"]
    clip = net.deploy(
        code("clip_stand_in", ["address", *types], [vat, ILK, VOW, calculator, price])
    )
    net.send(Cast.DEPLOYER, clip, "upchost()")
    return clip


def code(name: str, types: Sequence[str], values: Sequence[object]) -> bytes:
    """Return the creation code of a stand-in with its arguments."""
    artifacts = json.loads(_STAND_INS.read_text(encoding="utf-8"))
    return bytes.fromhex(artifacts[name]["bytecode"][2:]) + encode(list(types), list(values))
