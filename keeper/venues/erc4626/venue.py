"""ERC-4626 vaults as a venue: named one by one, read at each head, redeemed by the contract."""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from pydantic import BaseModel, ConfigDict

from keeper.address import EvmAddress
from keeper.ports import Pages, Reader
from keeper.types import (
    AllowedCall,
    Call,
    CallResult,
    Drift,
    FlashSource,
    Head,
    Hop,
    Log,
    NextBlock,
    Undo,
    VaultRedeem,
    Watch,
)
from keeper.units import Address, Hash, to_hex
from keeper.venues.erc4626.vault import (
    Trials,
    Vault,
    decode,
    encode,
    freeze,
    load_vault,
    read_state,
    state_calls,
)

REDEEM = bytes.fromhex("ba087652")
MOVED = frozenset(
    {
        bytes.fromhex("dcbc1c05240f31ff3ad067ef1ee35ce4997762752e3a095284754544f4c709d7"),
        bytes.fromhex("fbde797d201c681b91056529119e0b02407c7bb96a4a2c75c01fc9667232c8db"),
    }
)
"""`Deposit` and `Withdraw`."""

EXTRA_GAS = 0
"""What a redemption takes beyond a swap in a Uniswap V3 pool."""
_FORMAT = 1


class Erc4626:
    """Vaults that pay at once, and at a rate that is known for the block to come.

    That is where a vault's assets are what it holds of them, or grow by a savings rate. What a rate
    depends on is read at every head beside the prices, with the vault's own word for one share;
    where the two differ nothing is redeemed. Shares that wait in a queue are not for this venue.
    """

    class Config(BaseModel):
        """Which vaults."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        vaults: tuple[EvmAddress, ...]

    @classmethod
    def configured(
        cls, name: str, config: Config, _tokens: Iterable[Address], _contract: Address
    ) -> "Erc4626":
        """Return the venue that the settings describe."""
        return cls(name, config.vaults)

    def __init__(self, name: str, addresses: Sequence[Address]) -> None:
        self.name = name
        self.addresses = tuple(sorted(set(addresses)))
        self.vaults: dict[Address, Vault] = {}
        self._read_at = Hash(b"")
        self._watch = Watch(frozenset(self.addresses), MOVED)

    def watch(self) -> Watch:
        """Return the vaults."""
        return self._watch

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Load the vaults as of exactly this head."""
        self._adopt([await load_vault(reader, head, address) for address in self.addresses])
        self._read_at = head.hash

    def snapshot(self) -> Pages:
        """Freeze which vaults there are and how they round."""
        return partial(encode, self._identity(), [freeze(each) for each in self.vaults.values()])

    def restore(self, pages: Iterable[bytes]) -> None:
        """Hold a snapshot's vaults, to be read; raise `InvariantError` when it was of others."""
        self._adopt(decode(self._identity(), pages))

    def calls(self) -> Sequence[Call]:
        """Return the reads of every vault."""
        return [call for vault in self.vaults.values() for call in state_calls(vault)]

    def observe(self, results: Sequence[CallResult], head: Head, at: NextBlock) -> None:
        """Take every vault's rate for the block to come."""
        start = 0
        for vault in self.vaults.values():
            end = start + len(state_calls(vault))
            vault.state = read_state(vault, results[start:end], head.timestamp, at.timestamp)
            start = end
        self._read_at = head.hash

    def fold(self, log: Log) -> Undo | None:
        """Forget the rate of a vault that moved; the reads of the head bring the new one."""
        vault = self.vaults.get(log.address)
        return None if vault is None or log.topics[0] not in MOVED else _forget(vault)

    def hops(self, token_in: Address) -> Sequence[Hop]:
        """Return the redemption of a vault's shares."""
        vault = self.vaults.get(token_in)
        if vault is None:
            return ()
        return (Hop(self.name, vault.address, vault.address, vault.asset, EXTRA_GAS),)

    def execution(self, _hop: Hop) -> VaultRedeem:
        """Return that the contract redeems, to itself."""
        return VaultRedeem()

    def permissions(self) -> Sequence[AllowedCall]:
        """Return that each vault's redemption has to be allowed."""
        return [AllowedCall(each, REDEEM, each) for each in self.addresses]

    def begin(self) -> Trials:
        """Return a scratch state on which redemptions can be tried one after another."""
        return Trials(self.vaults)

    def flash_sources(self, _token: Address) -> Sequence[FlashSource]:
        """Return nothing: vaults do not lend."""
        return ()

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare random vaults' own word for one share with ours, if they were read at this head."""
        known = sorted(address for address, each in self.vaults.items() if each.state is not None)
        if head.hash != self._read_at:
            return []
        chosen = [
            (self.vaults[address], self.vaults[address].state)
            for address in random.Random(seed).sample(known, min(sample, len(known)))
        ]
        calls = [call for vault, _ in chosen for call in state_calls(vault)]
        answers = iter(await reader.multicall(calls, head.hash))
        drifts = []
        for vault, held in chosen:
            results = [next(answers) for _ in state_calls(vault)]
            there = read_state(vault, results, head.timestamp, head.timestamp)
            if there is None or type(there) is not type(held):
                drifts.append(Drift(f"{self.name} {to_hex(vault.address)} rate", 1, 0))
        return drifts

    def _adopt(self, vaults: Iterable[Vault]) -> None:
        # A new dictionary: trials begun on the old one end on it.
        self.vaults = {vault.address: vault for vault in vaults}

    def _identity(self) -> bytes:
        return b"".join((_FORMAT.to_bytes(4), *self.addresses))


def _forget(vault: Vault) -> Callable[[], None]:
    def undo() -> None:
        # What was read since is of the block that is taken back.
        vault.state = None

    vault.state = None
    return undo
