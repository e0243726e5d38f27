"""Deploy real ERC-4626 vaults on the devnet, and a stand-in of one with a savings rate."""

from dataclasses import dataclass, field

from eth_abi.abi import encode

from keeper.chain.reader import ChainReader
from keeper.devnet import Cast, Devnet
from keeper.types import Log
from keeper.units import Address
from keeper.venues.erc4626 import Erc4626
from tests.exchanges.contracts import vault
from tests.exchanges.curve import stand_in
from tests.uniswap import DirectRpc, logs_of

KINDS = {
    "zero": ("OpenZeppelinVault", 0),
    "six": ("OpenZeppelinVault", 6),
    "solmate": ("SolmateVault", None),
}
"""Vaults by a short name: the contract, and the offset of its decimals."""
SUPPLY_SLOT = 2


@dataclass(slots=True)
class Exchange:
    """Vaults by address, with the symbol of their asset."""

    net: Devnet
    vaults: dict[Address, str] = field(default_factory=dict)

    def open(self, kind: str, symbol: str, whole: int = 10**6) -> Address:
        """Open a vault with so many whole assets in it, earned by a twentieth since."""
        name, offset = KINDS[kind]
        token = self.net.tokens[symbol]
        arguments = [token.address] if offset is None else [token.address, offset]
        types = ["address", "uint8"][: len(arguments)]
        made = Address(self.net.deploy(vault(name) + encode(types, arguments)))
        self.vaults[made] = symbol
        self.deposit(made, Cast.DEPLOYER, whole * 10**token.decimals)
        self.net.give(symbol, made, whole * 10**token.decimals // 20)
        return made

    def open_savings(self, symbol: str, rate: int) -> Address:
        """Open a stand-in whose chi grows by `rate` a second, 1e27 being none."""
        token = self.net.tokens[symbol]
        code = stand_in("savings_stand_in") + encode(["address", "uint256"], [token.address, rate])
        made = Address(self.net.deploy(code))
        self.vaults[made] = symbol
        self.deposit(made, Cast.DEPLOYER, 10**6 * 10**token.decimals)
        self.net.give(symbol, made, 10**6 * 10**token.decimals)
        return made

    def deposit(self, where: Address, who: bytes, amount: int) -> list[Log]:
        """Put assets in."""
        self.net.give(self.vaults[where], who, amount)
        token = self.net.tokens[self.vaults[where]].address
        self.net.send(who, token, "approve(address,uint256)", [where, 2**255])
        return logs_of(self.net.send(who, where, "deposit(uint256,address)", [amount, who]))

    def redeem(self, where: Address, who: bytes, shares: int) -> list[Log]:
        """Take assets out for shares."""
        call = "redeem(uint256,address,address)"
        return logs_of(self.net.send(who, where, call, [shares, who, who]))

    def venue(self) -> Erc4626:
        """Return the venue over all vaults, not loaded."""
        return Erc4626("vaults", list(self.vaults))

    async def loaded(self) -> Erc4626:
        """Return the venue loaded at the present head."""
        venue, reader = self.venue(), ChainReader(DirectRpc(self.net))
        await venue.bootstrap(reader, await reader.head())
        return venue


async def observe(venue: Erc4626, reader: ChainReader, seconds: int = 12) -> None:
    """Have a venue read the present head, for a block so much later."""
    head = await reader.head()
    venue.observe(await reader.multicall(venue.calls(), head.hash), head, head.next_block(seconds))
