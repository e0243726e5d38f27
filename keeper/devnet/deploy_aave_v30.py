"""Deploy one Aave v3.0 market from the contracts its package ships, as SparkLend's were forked from.

Up to v3.1 each reserve has a rate strategy of its own, a third token for debts at stable rates, and
at most one eMode category.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from eth_abi.abi import encode

from keeper.devnet.accounts import Cast
from keeper.devnet.artifacts import load_own
from keeper.devnet.chain import Transaction
from keeper.devnet.deploy_aave import AaveDeployer
from keeper.devnet.deploy_tokens import Listing, call, fund_traders
from keeper.devnet.devnet import Devnet
from keeper.devnet.model import Market, Token
from keeper.devnet.reserves import EMODES, RESERVES, EModeSpec
from keeper.devnet.solidity import Artifact
from keeper.devnet.toolchain import Progress, install_packages

LOCKED = Path(__file__).parent / "npm_aave_v30"
_PACKAGE = "@aave/core-v3/artifacts/contracts"
_LOGIC = (
    "BorrowLogic",
    "BridgeLogic",
    "ConfiguratorLogic",
    "EModeLogic",
    "LiquidationLogic",
    "PoolLogic",
    "SupplyLogic",
)
_INIT = (
    "initReserves((address,address,address,uint8,address,address,address,address,"
    "string,string,string,string,string,string,bytes)[])"
)
_PATHS = {
    **{name: f"protocol/libraries/logic/{name}" for name in (*_LOGIC, "FlashLoanLogic")},
    "AaveOracle": "misc/AaveOracle",
    "AaveProtocolDataProvider": "misc/AaveProtocolDataProvider",
    "ACLManager": "protocol/configuration/ACLManager",
    "AToken": "protocol/tokenization/AToken",
    "DefaultReserveInterestRateStrategy": "protocol/pool/DefaultReserveInterestRateStrategy",
    "L2Pool": "protocol/pool/L2Pool",
    "PoolAddressesProvider": "protocol/configuration/PoolAddressesProvider",
    "PoolConfigurator": "protocol/pool/PoolConfigurator",
    "StableDebtToken": "protocol/tokenization/StableDebtToken",
    "VariableDebtToken": "protocol/tokenization/VariableDebtToken",
}
_RAY_PER_BPS = 10**23
_ZERO = bytes(20)
_USD = 10**8


@cache
def aave_v30_contracts(progress: Progress) -> dict[str, Artifact]:
    """Return Aave v3.0 by contract name, as its package has it compiled."""
    folder = install_packages(progress, LOCKED) / _PACKAGE
    found = {}
    for name, path in _PATHS.items():
        item = json.loads((folder / f"{path}.sol" / f"{name}.json").read_text())
        links = {
            library: tuple(place["start"] for place in places)
            for libraries in item["linkReferences"].values()
            for library, places in libraries.items()
        }
        found[name] = Artifact(item["bytecode"][2:], tuple(links.items()))
    return found


class EarlyDeployer(AaveDeployer):
    """Build v3.0 markets; they are filled as later ones are."""

    def deploy(
        self,
        name: str,
        owner: bytes,
        listings: Mapping[str, Listing],
        emodes: Sequence[EModeSpec],
        flash_premium: int = 5,
    ) -> Market:
        """Return a market with `L2Pool` that lists `listings`; `flash_premium` in basis points."""
        chain = self._chain
        libraries = self._early_libraries(owner)
        provider = self._create(
            owner, "PoolAddressesProvider", ["string", "address"], [name, owner]
        )
        chain.send(owner, provider, "setACLAdmin(address)", [owner])
        acl, pool_code, configurator_code, template = chain.deploy_all(
            owner,
            [
                self._code("ACLManager", ["address"], [provider]),
                self._code("L2Pool", ["address"], [provider], libraries),
                self._code("PoolConfigurator", [], [], libraries),
                self._own["borrower"].linked({}),
            ],
        )
        chain.send_all(
            [
                call(owner, provider, "setACLManager(address)", [acl]),
                *(
                    call(owner, acl, f"{role}(address)", [owner])
                    for role in ("addPoolAdmin", "addRiskAdmin", "addEmergencyAdmin")
                ),
                call(owner, provider, "setPoolImpl(address)", [pool_code]),
                call(owner, provider, "setPoolConfiguratorImpl(address)", [configurator_code]),
            ]
        )
        pool = _address(chain.call(provider, "getPool()", returns=["address"]))
        configurator = _address(chain.call(provider, "getPoolConfigurator()", returns=["address"]))
        treasury = bytes.fromhex("7ea5" * 10)
        sources = [[i.address for i in listings.values()], [i.feed for i in listings.values()]]
        oracle_types = ["address", "address[]", "address[]", "address", "address", "uint256"]
        oracle, data_provider, *tokens, crowd = chain.deploy_all(
            owner,
            [
                self._code("AaveOracle", oracle_types, [provider, *sources, _ZERO, _ZERO, _USD]),
                self._code("AaveProtocolDataProvider", ["address"], [provider]),
                *(
                    self._code(kind, ["address"], [pool])
                    for kind in ("AToken", "StableDebtToken", "VariableDebtToken")
                ),
                self._own["crowd"].linked({}) + encode(["address"], [template]),
            ],
        )
        chain.send_all(
            [
                call(owner, provider, "setPriceOracle(address)", [oracle]),
                call(owner, provider, "setPoolDataProvider(address)", [data_provider]),
                call(owner, configurator, "updateFlashloanPremiumTotal(uint128)", [flash_premium]),
            ]
        )
        strategies = self._strategies(owner, provider, list(listings.values()))
        for item, strategy in zip(listings.values(), strategies, strict=True):
            symbol = item.spec.symbol
            names = [
                text.format(symbol)
                for text in (
                    "Aave {}", "a{}", "Aave debt {}", "variableDebt{}", "Stable {}", "stableDebt{}",
                )
            ]  # fmt: skip
            entry = (
                *tokens, item.spec.decimals, strategy, item.address, treasury, _ZERO, *names, b"",
            )  # fmt: skip
            chain.send(owner, configurator, _INIT, [[entry]], gas=8_000_000)
        self._configure(owner, configurator, listings, emodes)
        reserves = {symbol: self._token(pool, item) for symbol, item in listings.items()}
        return Market(
            name, owner, provider, pool, configurator, oracle, acl, data_provider, strategies[0],
            treasury, crowd, reserves,
        )  # fmt: skip

    def _early_libraries(self, owner: bytes) -> dict[str, bytes]:
        codes = [self._aave[name].linked({}) for name in _LOGIC]
        libraries = dict(zip(_LOGIC, self._chain.deploy_all(owner, codes), strict=True))
        flash = self._aave["FlashLoanLogic"].linked(libraries)
        return libraries | {"FlashLoanLogic": self._chain.deploy(owner, flash)}

    def _strategies(
        self, owner: bytes, provider: bytes, listings: Sequence[Listing]
    ) -> list[bytes]:
        types = ["address", *["uint256"] * 9]
        return self._chain.deploy_all(
            owner,
            [
                self._code(
                    "DefaultReserveInterestRateStrategy",
                    types,
                    [provider, *(rate * _RAY_PER_BPS for rate in item.spec.rates), 0, 0, 0, 0, 0],
                )
                for item in listings
            ],
        )

    def _emode_calls(
        self,
        owner: bytes,
        configurator: bytes,
        listings: Mapping[str, Listing],
        mode: EModeSpec,
    ) -> list[Transaction]:
        terms = [mode.id, mode.ltv, mode.threshold, mode.bonus, _ZERO, mode.label]
        signature = "setEModeCategory(uint8,uint16,uint16,uint16,address,string)"
        members = dict.fromkeys((*mode.collateral, *mode.borrowable))
        return [
            call(owner, configurator, signature, terms),
            *(
                call(
                    owner,
                    configurator,
                    "setAssetEModeCategory(address,uint8)",
                    [listings[symbol].address, mode.id],
                )
                for symbol in members
            ),
        ]

    def _token(self, pool: bytes, item: Listing) -> Token:
        words = self._chain.call(pool, "getReserveData(address)", [item.address], ["uint256"] * 15)
        spec = item.spec
        a_token, v_token = (words[at].to_bytes(20) for at in (8, 10))
        return Token(
            spec.symbol, item.address, spec.decimals, a_token, v_token, spec.source, item.feed,
            item.base, spec.ltv, spec.threshold,
        )  # fmt: skip


def add_early_market(net: Devnet, name: str = "Early", progress: Progress = print) -> Market:
    """Return a filled v3.0 market with the reserves, tokens and price sources of the main one."""
    own, tokens = load_own(), net.tokens
    weth = tokens["WETH"].address
    listings = {
        spec.symbol: Listing(spec, token.address, token.feed, token.base)
        for spec in RESERVES
        for token in (tokens[spec.symbol],)
    }
    builder = EarlyDeployer(net.chain, aave_v30_contracts(progress), own, weth)
    market = builder.deploy(name, Cast.DEPLOYER, listings, EMODES)
    builder.fill(market, Cast.LENDER, Cast.ANCHOR, RESERVES)
    fund_traders(net.chain, market, net.uniswap)
    return market


def _address(text: str) -> bytes:
    return bytes.fromhex(text[2:])
