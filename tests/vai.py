"""VAI on the local chain, by Venus' real controller, beside a core pool that stands there."""

from dataclasses import dataclass

from eth_abi.abi import encode

from keeper.chain.codes import IMPLEMENTATION_SLOT
from keeper.devnet import Devnet
from keeper.devnet.venus import WAD, Venus, load_venus
from keeper.units import ZERO_ADDRESS, to_hex

YEARLY = 100 * WAD


@dataclass(frozen=True, slots=True)
class Vai:
    """The token and its controller."""

    net: Devnet
    token: bytes
    controller: bytes

    def owed(self, minter: bytes) -> int:
        """Return what a minter owes as stored."""
        return int(self.net.call(self.controller, "getVAIRepayAmount(address)", [minter]))


def deploy_vai(net: Devnet, venus: Venus, yearly: int = YEARLY) -> Vai:
    """Put Venus' VAI controller in the place of the stand-in, at a yearly rate (wad)."""
    artifacts = load_venus(lambda _: None)
    chain, owner = net.chain, venus.owner

    def made(name: str, data: bytes = b"") -> bytes:
        return chain.deploy(owner, bytes.fromhex(artifacts[name]["bytecode"][2:]) + data)

    token = made("VAI", encode(["uint256"], [31_337]))
    controller, logic = made("VAIUnitroller"), made("VAIController")
    for to, signature, args in (
        (controller, "_setPendingImplementation(address)", [logic]),
        (logic, "_become(address)", [controller]),
        (controller, "initialize()", []),
        (controller, "_setComptroller(address)", [venus.comptroller]),
        (controller, "setVAIToken(address)", [token]),
        (controller, "setAccessControl(address)", [venus.around]),
        (controller, "setReceiver(address)", [owner]),
        (controller, "setBaseRate(uint256)", [yearly]),
        (token, "rely(address)", [controller]),
        (venus.comptroller, "_setVAIController(address)", [controller]),
        (venus.comptroller, "_setVAIMintRate(uint256)", [8_000]),
    ):
        chain.send(owner, to, signature, args, gas=14_000_000)
    if venus.liquidator != ZERO_ADDRESS:
        # It looks for the controller once, when it is made.
        wrapped = net.tokens[venus.native].address
        args = [venus.comptroller, venus.vtokens[venus.native], wrapped]
        renewed = made("Liquidator", encode(["address"] * 3, args))
        slot, value = hex(IMPLEMENTATION_SLOT), "0x" + renewed.rjust(32, b"\0").hex()
        net.rpc("anvil_setStorageAt", to_hex(venus.liquidator), slot, value)
    return Vai(net, token, controller)
