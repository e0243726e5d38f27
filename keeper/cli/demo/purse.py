"""What the contract and its operators hold, to be compared with what the receipts say was earned."""

from collections.abc import Mapping
from dataclasses import dataclass

from keeper.devnet.lending.street import Street
from keeper.devnet.operator import Operator
from keeper.units import Address


@dataclass(frozen=True, slots=True)
class Purse:
    """The contract's tokens by address, none of them zero, and the wallets' coin, in wei."""

    tokens: Mapping[Address, int]
    coin: int

    def since(self, before: "Purse") -> "Purse":
        """Return what was added, or taken."""
        every = self.tokens.keys() | before.tokens.keys()
        added = {each: self.tokens.get(each, 0) - before.tokens.get(each, 0) for each in every}
        return Purse(
            {each: amount for each, amount in added.items() if amount}, self.coin - before.coin
        )


def weigh(street: Street, operator: Operator) -> Purse:
    """Read what the contract has of every token there is, and the wallets of the coin."""
    tokens = street.tokens()
    calls = [(token, "balanceOf(address)", [operator.contract]) for token in tokens]
    held = street.net.chain.call_many(calls, ["uint256"], "latest")
    coin = sum(
        int(street.net.rpc("eth_getBalance", "0x" + wallet.address.hex(), "latest"), 16)
        for wallet in operator.wallets
    )
    known = zip(map(Address, tokens), held, strict=True)
    return Purse({token: amount for token, amount in known if amount}, coin)
