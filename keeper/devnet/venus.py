"""Venus' core pool on the local chain: its real contracts, of the Compound V2 family, in prebuilt form.

Underlyings, prices and pools are those of the Aave market that stands there.
"""

import base64
import hashlib
import json
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_hash.auto import keccak

from keeper.devnet.accounts import Cast
from keeper.devnet.artifacts import load_own
from keeper.devnet.cache import cached, fingerprint
from keeper.devnet.calls import calldata
from keeper.devnet.chain import Chain, Transaction
from keeper.devnet.deploy_tokens import mint
from keeper.devnet.model import Market
from keeper.devnet.toolchain import Progress, find_node, run_tool
from keeper.errors import ConfigError

PACKAGE = "@venusprotocol/venus-protocol@10.3.0"
INTEGRITY = "sha512-qGvjvUgYhK5REF/Cj4Lg4FNBMrEscnSSxr4sHL4WDlb2woPucvqLfGkw/f3XKFanf+lWD1G4K0Gzpdc430+BeQ=="
WAD = 10**18
YEAR_BLOCKS = 2_628_000
CORE = 0
_ZERO = bytes(20)
_MAX = 2**256 - 1
_FACETS = ("MarketFacet", "PolicyFacet", "RewardFacet", "SetterFacet")
_ARTIFACTS = {
    "Unitroller": "Comptroller/Unitroller.sol",
    "Diamond": "Comptroller/Diamond/Diamond.sol",
    **{name: f"Comptroller/Diamond/facets/{name}.sol" for name in _FACETS},
    "ComptrollerLens": "Lens/ComptrollerLens.sol",
    "JumpRateModel": "InterestRateModels/JumpRateModel.sol",
    "VBep20Immutable": "Tokens/VTokens/VBep20Immutable.sol",
    "VBNB": "Tokens/VTokens/VBNB.sol",
    "Liquidator": "Liquidator/Liquidator.sol",
    "VAI": "Tokens/VAI/VAI.sol",
    "VAIController": "Tokens/VAI/VAIController.sol",
    "VAIUnitroller": "Tokens/VAI/VAIUnitroller.sol",
}
_PROXY = "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol"
LISTINGS = (
    ("WETH", 8_000, 8_250),
    ("USDC", 8_250, 8_500),
    ("WBTC", 7_500, 8_000),
    ("DAI", 7_500, 7_800),
)
"""Underlying, collateral factor and liquidation threshold in basis points; WETH is the native coin."""


@dataclass(frozen=True, slots=True)
class Venus:
    """The deployed core pool; `vtokens` by the symbol of the underlying, `owner` may do anything.

    `liquidator` is Venus' own liquidator contract, zero where anybody calls the vTokens.
    """

    chain: Chain
    comptroller: bytes
    around: bytes
    liquidator: bytes
    owner: bytes
    vtokens: dict[str, bytes]
    native: str
    market: Market

    def fix_price(self, symbol: str, price: int | None) -> None:
        """Give a vToken a price of its own (36 less its decimals), or let it follow Aave's again."""
        args = [self.vtokens[symbol], price or 0, price is not None]
        self.chain.send(self.owner, self.around, "fix(address,uint256,bool)", args)

    def supply(self, holder: bytes, symbol: str, amount: int) -> list[Transaction]:
        """Return what mints vTokens for an amount of the underlying and counts them."""
        vtoken = self.vtokens[symbol]
        enter = calldata("enterMarkets(address[])", [[vtoken]])
        entering = Transaction(holder, self.comptroller, enter)
        if symbol == self.native:
            return [Transaction(holder, vtoken, calldata("mint()", []), amount), entering]
        asset = self.market.tokens[symbol].address
        return [
            Transaction(holder, asset, calldata("approve(address,uint256)", [vtoken, _MAX])),
            Transaction(holder, vtoken, calldata("mint(uint256)", [amount])),
            entering,
        ]

    def borrow(self, borrower: bytes, symbol: str, amount: int) -> Transaction:
        """Return what borrows an amount."""
        data = calldata("borrow(uint256)", [amount])
        return Transaction(borrower, self.vtokens[symbol], data)

    def liquidity(self, account: bytes) -> tuple[int, int]:
        """Return what the comptroller calls liquidity and shortfall, in wad dollars."""
        return self.liquidities([account])[0]

    def liquidities(self, accounts: Sequence[bytes]) -> list[tuple[int, int]]:
        """Return the liquidity and shortfall of several accounts, with one round trip."""
        signature, words = "getAccountLiquidity(address)", ["uint256"] * 3
        calls = [(self.comptroller, signature, [account]) for account in accounts]
        found = self.chain.call_many(calls, words, "latest")
        if any(error for error, *_ in found):
            raise LookupError("getAccountLiquidity answers an error")
        return [(free, short) for _, free, short in found]

    def accrue(self) -> None:
        """Have every vToken store its interest, in one block."""
        with self.chain.one_block():
            for vtoken in self.vtokens.values():
                data = calldata("accrueInterest()", [])
                self.chain.put(Transaction(self.owner, vtoken, data))


def deploy_venus(
    chain: Chain,
    market: Market,
    progress: Progress,
    *,
    through_liquidator: bool = True,
    treasury_share: int = WAD // 2,
    cash_usd: int = 20_000_000,
) -> Venus:
    """Deploy the core pool on an Aave market's tokens and prices, with so much cash in each vToken.

    Raises ConfigError when the package cannot be had.
    """
    artifacts = load_venus(progress)
    owner = Cast.DEPLOYER

    def code(name: str, types: Sequence[str] = (), values: Sequence[Any] = ()) -> bytes:
        return bytes.fromhex(artifacts[name]["bytecode"][2:]) + encode(list(types), list(values))

    around_code = load_own()["venus_around"].linked({}) + encode(["address"], [market.oracle])
    rates = [WAD // 50, WAD // 5, 2 * WAD, 8 * WAD // 10, YEAR_BLOCKS]
    around, unitroller, diamond, lens, model, *facets = chain.deploy_all(
        owner,
        [
            around_code,
            code("Unitroller"),
            code("Diamond"),
            code("ComptrollerLens"),
            code("JumpRateModel", ["uint256"] * 5, rates),
            *map(code, _FACETS),
        ],
    )

    def send(to: bytes, signature: str, args: Sequence[Any]) -> None:
        chain.send(owner, to, signature, args, gas=14_000_000)

    send(unitroller, "_setPendingImplementation(address)", [diamond])
    send(diamond, "_become(address)", [unitroller])
    taken: set[bytes] = set()
    cuts = []
    for name, facet in zip(_FACETS, facets, strict=True):
        selectors = [each for each in _selectors(artifacts[name]["abi"]) if each not in taken]
        taken.update(selectors)
        cuts.append((facet, 0, selectors))
    send(unitroller, "diamondCut((address,uint8,bytes4[])[])", [cuts])
    send(unitroller, "_setAccessControl(address)", [around])
    send(unitroller, "_setComptrollerLens(address)", [lens])
    send(unitroller, "setPriceOracle(address)", [around])
    send(unitroller, "setDeviationBoundedOracle(address)", [around])
    send(unitroller, "_setVAIController(address)", [around])
    send(unitroller, "setCloseFactor(uint256)", [WAD // 2])
    vtokens: dict[str, bytes] = {}
    native = LISTINGS[0][0]
    for symbol, factor, threshold in LISTINGS:
        token = market.tokens[symbol]
        rate = WAD * 10**token.decimals // 10**8 * 2 // 100
        text = [f"Venus {symbol}", f"v{symbol}", 8, owner]
        if symbol == native:
            types = ["address", "address", "uint256", "string", "string", "uint8", "address"]
            made = code("VBNB", types, [unitroller, model, rate, *text])
        else:
            types = ["address"] * 3 + ["uint256", "string", "string", "uint8", "address"]
            values = [token.address, unitroller, model, rate, *text]
            made = code("VBep20Immutable", types, values)
        vtoken = vtokens[symbol] = chain.deploy(owner, made)
        send(around, "list(address,address,uint256)", [vtoken, token.address, token.decimals])
        send(vtoken, "setAccessControlManager(address)", [around])
        send(vtoken, "setProtocolShareReserve(address)", [around])
        send(vtoken, "setReduceReservesBlockDelta(uint256)", [10**9])
        send(vtoken, "_setReserveFactor(uint256)", [WAD // 10])
        send(unitroller, "_supportMarket(address)", [vtoken])
        send(unitroller, "setMarketSupplyCaps(address[],uint256[])", [[vtoken], [_MAX]])
        send(unitroller, "setMarketBorrowCaps(address[],uint256[])", [[vtoken], [_MAX]])
        terms = [vtoken, factor * 10**14, threshold * 10**14]
        send(unitroller, "setCollateralFactor(address,uint256,uint256)", terms)
        send(unitroller, "setLiquidationIncentive(address,uint256)", [vtoken, 11 * WAD // 10])
        send(unitroller, "setIsBorrowAllowed(uint96,address,bool)", [CORE, vtoken, True])
    liquidator = _ZERO
    if through_liquidator:
        wrapped = market.tokens[native].address
        logic = chain.deploy(
            owner, code("Liquidator", ["address"] * 3, [unitroller, vtokens[native], wrapped])
        )
        start = calldata("initialize(uint256,address,address)", [treasury_share, around, around])
        liquidator = chain.deploy(owner, code("ERC1967Proxy", ["address", "bytes"], [logic, start]))
        send(liquidator, "setPendingRedeemChunkLength(uint256)", [5])
        send(unitroller, "_setLiquidatorContract(address)", [liquidator])
    venus = Venus(chain, unitroller, around, liquidator, owner, vtokens, native, market)
    _fill(venus, cash_usd)
    return venus


def _fill(venus: Venus, cash_usd: int) -> None:
    chain, market = venus.chain, venus.market
    weth = market.tokens["WETH"].address
    for symbol in venus.vtokens:
        token = market.tokens[symbol]
        price = chain.call(market.oracle, "getAssetPrice(address)", [token.address])
        amount = cash_usd * 10**8 * 10**token.decimals // price
        if symbol == venus.native:
            chain.rpc("anvil_setBalance", "0x" + Cast.LENDER.hex(), hex(2 * amount + 10**24))
        else:
            mint(chain, venus.owner, weth, [(token.address, Cast.LENDER, amount)])
        chain.send_all(venus.supply(Cast.LENDER, symbol, amount))


def load_venus(progress: Progress) -> dict[str, Any]:
    """Return the package's artifacts by contract name, downloaded and unpacked the first time."""

    def build(folder: Path) -> None:
        progress("downloading Venus (once, 57 MB)")
        command = [*find_node().npm, "pack", PACKAGE, "--silent"]
        run_tool(command, folder, "npm pack failed", "check the network and retry")
        (package,) = folder.glob("*.tgz")
        with package.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").digest()
        found = "sha512-" + base64.b64encode(digest).decode()
        if found != INTEGRITY:
            raise ConfigError(f"{PACKAGE} is not what it was: {found}", "do not use it")
        wanted = {
            f"package/artifacts/contracts/{path}/{name}.json": name
            for name, path in _ARTIFACTS.items()
        }
        wanted[f"package/artifacts/{_PROXY}/ERC1967Proxy.json"] = "ERC1967Proxy"
        with tarfile.open(package) as archive:
            for member in archive:
                name = wanted.pop(member.name, "")
                content = archive.extractfile(member) if name else None
                if content is not None:
                    with (folder / f"{name}.json").open("wb") as out:
                        shutil.copyfileobj(content, out)
        package.unlink()
        if wanted:
            raise ConfigError(f"{PACKAGE} lacks {min(wanted)}", "do not use it")

    key = fingerprint([PACKAGE.encode(), INTEGRITY.encode(), json.dumps(_ARTIFACTS).encode()])
    folder = cached("venus", key, build)
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def _selectors(abi: Sequence[dict[str, Any]]) -> list[bytes]:
    return [
        keccak(f"{item['name']}({','.join(map(_type, item['inputs']))})".encode())[:4]
        for item in abi
        if item["type"] == "function"
    ]


def _type(item: dict[str, Any]) -> str:
    if not item["type"].startswith("tuple"):
        return str(item["type"])
    return f"({','.join(map(_type, item['components']))}){item['type'].removeprefix('tuple')}"
