"""Morpho Blue on the local chain: the real contract, its package's rate model and oracles, borrowers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from eth_abi.abi import encode
from eth_hash.auto import keccak

from keeper.devnet.accounts import Cast
from keeper.devnet.calls import calldata
from keeper.devnet.chain import Chain, Transaction
from keeper.devnet.model import Token
from keeper.devnet.prices import POST_FEE
from keeper.devnet.solidity import Artifact, Job, compile_solidity
from keeper.devnet.toolchain import Progress, install_packages

LOCKED = Path(__file__).parent / "npm_morpho"
PARAMS = "(address,address,address,address,uint256)"

_SOURCE = "@morpho-org/morpho-blue/src"
_JOB = Job(
    compiler="solc-0.8.19",
    settings={
        "optimizer": {"enabled": True, "runs": 999_999},
        "viaIR": True,
        "evmVersion": "paris",
    },
    remappings={},
    contracts={
        f"{_SOURCE}/Morpho.sol": ("Morpho",),
        f"{_SOURCE}/mocks/IrmMock.sol": ("IrmMock",),
        f"{_SOURCE}/mocks/OracleMock.sol": ("OracleMock",),
    },
)


@dataclass(frozen=True, slots=True)
class MorphoMarket:
    """One market of the deployment: what it lends, against what, and who says so."""

    loan: Token
    collateral: Token
    oracle: bytes
    irm: bytes
    lltv: int

    @property
    def params(self) -> tuple[bytes, bytes, bytes, bytes, int]:
        """Return the struct that every call names the market by."""
        return self.loan.address, self.collateral.address, self.oracle, self.irm, self.lltv

    @property
    def id(self) -> bytes:
        """Return the market's id: the hash of its struct."""
        return keccak(encode(["address"] * 4 + ["uint256"], self.params))

    def quotient(self, collateral: int, loan: int) -> int:
        """Return what an oracle says at two prices of one currency: loan units for 1e36 units."""
        scale = int(10 ** (36 + self.loan.decimals))
        return collateral * scale // (loan * int(10**self.collateral.decimals))


@dataclass(frozen=True, slots=True)
class Morpho:
    """The deployed singleton; its owner is the deployer, and the trader lends and puts up."""

    chain: Chain
    address: bytes
    irm: bytes

    def market(
        self, loan: Token, collateral: Token, lltv: int, irm: bytes | None = None
    ) -> MorphoMarket:
        """Create a market with an oracle of its own, which says nothing until it is told."""
        oracle = self.chain.deploy(Cast.DEPLOYER, _contracts()["OracleMock"].linked({}))
        made = MorphoMarket(loan, collateral, oracle, self.irm if irm is None else irm, lltv)
        if not self.chain.call(self.address, "isLltvEnabled(uint256)", [lltv], ["bool"]):
            self.chain.send(Cast.DEPLOYER, self.address, "enableLltv(uint256)", [lltv])
        if not self.chain.call(self.address, "isIrmEnabled(address)", [made.irm], ["bool"]):
            self.chain.send(Cast.DEPLOYER, self.address, "enableIrm(address)", [made.irm])
        self.send(Cast.DEPLOYER, made, f"createMarket({PARAMS})")
        approvals = [
            Transaction(Cast.TRADER, token.address, calldata("approve(address,uint256)", args))
            for token in (loan, collateral)
            for args in ([self.address, 0], [self.address, 2**256 - 1])
        ]
        self.chain.send_all(approvals)
        return made

    def send(self, who: bytes, market: MorphoMarket, signature: str, *args: object) -> None:
        """Send a call whose first argument is the market's struct."""
        self.chain.send_all([self.call(who, market, signature, *args)])

    def call(self, who: bytes, market: MorphoMarket, signature: str, *args: object) -> Transaction:
        """Return a call whose first argument is the market's struct."""
        return Transaction(who, self.address, calldata(signature, [market.params, *args]))

    def supply(self, market: MorphoMarket, amount: int) -> None:
        """Lend an amount of the market's loan token."""
        name = f"supply({PARAMS},uint256,uint256,address,bytes)"
        self.send(Cast.TRADER, market, name, amount, 0, Cast.TRADER, b"")

    def quote(self, market: MorphoMarket, price: int) -> Transaction:
        """Return what sets the market's oracle, first in its block."""
        data = calldata("setPrice(uint256)", [price])
        return Transaction(Cast.DEPLOYER, market.oracle, data, 0, 100_000, POST_FEE)

    def set_price(self, market: MorphoMarket, price: int) -> None:
        """Set the market's oracle, loan units for 1e36 units of collateral, in its own block."""
        self.chain.send_all([self.quote(market, price)])

    def open(self, market: MorphoMarket, positions: Sequence[tuple[bytes, int, int]]) -> None:
        """Put up collateral for borrowers and have them borrow: (who, collateral, debt)."""
        put_up = f"supplyCollateral({PARAMS},uint256,address,bytes)"
        borrow = f"borrow({PARAMS},uint256,uint256,address,address)"
        self.chain.send_all(
            [self.call(Cast.TRADER, market, put_up, held, who, b"") for who, held, _ in positions]
        )
        self.chain.send_all(
            [
                self.call(who, market, borrow, owed, 0, who, who)
                for who, _, owed in positions
                if owed
            ]
        )


@cache
def _contracts(progress: Progress = lambda _: None) -> dict[str, Artifact]:
    modules = install_packages(progress, LOCKED)
    return compile_solidity("Morpho Blue", [_JOB], modules, LOCKED, progress)


def deploy_morpho(chain: Chain, progress: Progress = lambda _: None) -> Morpho:
    """Return Morpho Blue with its package's rate model, and no market yet."""
    contracts = _contracts(progress)
    owner = encode(["address"], [Cast.DEPLOYER])
    address, irm = chain.deploy_all(
        Cast.DEPLOYER,
        [contracts["Morpho"].linked({}) + owner, contracts["IrmMock"].linked({})],
    )
    return Morpho(chain, address, irm)


def borrower(number: int) -> bytes:
    """Return an address that nobody else plays."""
    return keccak(b"morpho borrower" + number.to_bytes(8, "big"))[12:]
