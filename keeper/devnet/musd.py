"""Mezo's mUSD, of the Liquity V1 family, on the local chain: its real contracts, each behind a proxy."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import encode

from keeper.devnet.accounts import Cast
from keeper.devnet.artifacts import load_own
from keeper.devnet.cache import cached, fingerprint
from keeper.devnet.calls import calldata
from keeper.devnet.chain import Chain, Mined, Transaction
from keeper.devnet.prices import POST_FEE
from keeper.devnet.solidity import Artifact, Job, compile_solidity
from keeper.devnet.toolchain import Progress, install_packages

LOCKED = Path(__file__).parent / "npm_musd"
WAD = 10**18
_PACKAGE = "@mezo-org/musd-contracts"
_INPUT = "deployments/matsnet/solcInputs/def1ffb0a57a1d1aede0d49c8dd1d276.json"
_COMPILER = "solc-0.8.24"
_PROXIED = (
    "ActivePool",
    "BorrowerOperations",
    "BorrowerOperationsSignatures",
    "CollSurplusPool",
    "DefaultPool",
    "GasPool",
    "GovernableVariables",
    "InterestRateManager",
    "PCV",
    "PriceFeed",
    "SortedTroves",
    "StabilityPool",
    "TroveManager",
)
_DELAYED = {"PCV", "GovernableVariables"}
_PROXY = "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol"
_MOST_TROVES = 2**256 - 1
_TROVE_GAS = 2_500_000
_ZERO = bytes(20)


@dataclass(frozen=True, slots=True)
class Musd:
    """The deployed system: contracts by name, the token, and the aggregator its price comes from."""

    chain: Chain
    contracts: dict[str, bytes]
    token: bytes
    aggregator: bytes
    council: bytes

    def __getitem__(self, name: str) -> bytes:
        return self.contracts[name]

    @property
    def manager(self) -> bytes:
        """Return the trove manager."""
        return self.contracts["TroveManager"]

    def price(self, price: int) -> Transaction:
        """Return what sets the coin's price (18 decimals), first in its block."""
        data = calldata("set(int256)", [price])
        return Transaction(Cast.DEPLOYER, self.aggregator, data, 0, 300_000, POST_FEE)

    def set_price(self, price: int) -> None:
        """Set the coin's price (18 decimals) in a block of its own; it is good for a minute."""
        self.chain.send_all([self.price(price)])

    def opening(self, owner: bytes, coins: int, debt: int, above: bytes = _ZERO) -> Transaction:
        """Return what opens a trove: wei of the coin behind so much mUSD, fee and reserve apart.

        `above` is whom it comes right after in the order of their ratios, if that is known.
        """
        data = calldata("openTrove(uint256,address,address)", [debt, above, _ZERO])
        return Transaction(owner, self["BorrowerOperations"], data, coins, _TROVE_GAS)

    def operate(
        self, owner: bytes, signature: str, args: Sequence[Any] = (), *, value: int = 0
    ) -> Mined:
        """Send what a trove's owner asks of BorrowerOperations."""
        to = self["BorrowerOperations"]
        return self.chain.send(owner, to, signature, args, value=value, gas=_TROVE_GAS)

    def deposit(self, owner: bytes, amount: int) -> None:
        """Put mUSD of an owner into the stability pool."""
        pool = self["StabilityPool"]
        self.chain.send(owner, self.token, "approve(address,uint256)", [pool, amount])
        self.chain.send(owner, pool, "provideToSP(uint256)", [amount])


@cache
def musd_contracts(progress: Progress) -> dict[str, Artifact]:
    """Return mUSD's contracts by name, compiled the first time from the sources its package ships."""
    modules = install_packages(progress, LOCKED)
    standard = (modules / _PACKAGE / _INPUT).read_bytes()

    def extract(folder: Path) -> None:
        for name, source in json.loads(standard)["sources"].items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source["content"])
        (folder / _COMPILER).symlink_to(os.path.relpath(modules / _COMPILER, folder.parent / "x"))

    sources = cached("musd-sources", fingerprint([standard]), extract)
    own = {f"contracts/{name}.sol": (name,) for name in _PROXIED}
    job = Job(
        compiler=_COMPILER,
        settings={"optimizer": {"enabled": True, "runs": 100}, "evmVersion": "london"},
        remappings={},
        contracts=own | {"contracts/token/MUSD.sol": ("MUSD",), _PROXY: ("ERC1967Proxy",)},
    )
    return compile_solidity("mUSD", [job], sources, LOCKED, progress)


def deploy_musd(chain: Chain, price: int, progress: Progress = lambda _: None) -> Musd:
    """Return mUSD with the coin at a price of 18 decimals; the deployer is its council."""
    owner, code = Cast.DEPLOYER, musd_contracts(progress)
    aggregator, token, *plain = chain.deploy_all(
        owner,
        [
            load_own()["aggregator"].linked({})
            + encode(["string", "uint8", "int256"], ["coin / USD", 18, price]),
            code["MUSD"].linked({}),
            *(code[name].linked({}) for name in _PROXIED),
        ],
    )
    proxies = chain.deploy_all(
        owner,
        [
            code["ERC1967Proxy"].linked({})
            + encode(["address", "bytes"], [implementation, _started(name)])
            for name, implementation in zip(_PROXIED, plain, strict=True)
        ],
    )
    at = dict(zip(_PROXIED, proxies, strict=True))
    chain.send(owner, at["PriceFeed"], "setOracle(address)", [aggregator])
    chain.send_all([_wiring(owner, at, token, name) for name in _WIRED])
    chain.send(
        owner,
        token,
        "initialize(address,address,address,address)",
        [
            at[name]
            for name in (
                "TroveManager",
                "StabilityPool",
                "BorrowerOperations",
                "InterestRateManager",
            )
        ],
    )
    chain.send(owner, at["PCV"], "startChangingRoles(address,address)", [owner, owner])
    chain.send(owner, at["PCV"], "finalizeChangingRoles()")
    return Musd(chain, at, token, aggregator, owner)


def _started(name: str) -> bytes:
    if name in _DELAYED:
        return calldata("initialize(uint256)", [0])
    return calldata("initialize()")


_WIRED: dict[str, tuple[str, ...]] = {
    "ActivePool": (
        "BorrowerOperations",
        "CollSurplusPool",
        "DefaultPool",
        "InterestRateManager",
        "StabilityPool",
        "TroveManager",
    ),
    "BorrowerOperations": (
        "ActivePool",
        "BorrowerOperationsSignatures",
        "CollSurplusPool",
        "DefaultPool",
        "GasPool",
        "GovernableVariables",
        "InterestRateManager",
        "MUSD",
        "PCV",
        "PriceFeed",
        "SortedTroves",
        "StabilityPool",
        "TroveManager",
    ),
    "CollSurplusPool": ("ActivePool", "BorrowerOperations", "TroveManager"),
    "DefaultPool": ("ActivePool", "TroveManager"),
    "GasPool": ("MUSD", "TroveManager"),
    "InterestRateManager": ("ActivePool", "BorrowerOperations", "MUSD", "PCV", "TroveManager"),
    "PCV": ("BorrowerOperations", "MUSD"),
    "SortedTroves": ("BorrowerOperations", "TroveManager"),
    "StabilityPool": (
        "ActivePool",
        "BorrowerOperations",
        "MUSD",
        "PriceFeed",
        "SortedTroves",
        "TroveManager",
    ),
    "TroveManager": (
        "ActivePool",
        "BorrowerOperations",
        "CollSurplusPool",
        "DefaultPool",
        "GasPool",
        "InterestRateManager",
        "MUSD",
        "PCV",
        "PriceFeed",
        "SortedTroves",
        "StabilityPool",
    ),
}
"""What each contract is told of the others, in the order of its `setAddresses`."""


def _wiring(owner: bytes, at: dict[str, bytes], token: bytes, name: str) -> Transaction:
    known = [at.get(other, token) for other in _WIRED[name]]
    if name == "SortedTroves":
        data = calldata("setParams(uint256,address,address)", [_MOST_TROVES, *known])
    elif name == "BorrowerOperations":
        data = calldata("setAddresses(address[13])", [known])
    else:
        types = ",".join(["address"] * len(known))
        data = calldata(f"setAddresses({types})", known)
    return Transaction(owner, at[name], data, 0, 3_000_000)
