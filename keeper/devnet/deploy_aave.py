"""Deploy one Aave v3.6 market, list its reserves and fill them."""

from collections.abc import Mapping, Sequence

from eth_abi.abi import encode

from keeper.devnet.chain import Chain, Transaction
from keeper.devnet.deploy_tokens import Listing, call, mint
from keeper.devnet.model import Market, Token
from keeper.devnet.reserves import EModeSpec, ReserveSpec
from keeper.devnet.solidity import Artifact

_ZERO = bytes(20)
_USD = 10**8
_MAX = 2**256 - 1
_CROWD_USD = 4_000_000_000
_INIT = "initReserves((address,address,address,string,string,string,string,bytes,bytes)[])"
_LIBRARIES = ("BorrowLogic", "ConfiguratorLogic", "LiquidationLogic", "PoolLogic", "SupplyLogic")


class AaveDeployer:
    """Build markets with one set of contracts; libraries are deployed once per market."""

    def __init__(
        self, chain: Chain, aave: Mapping[str, Artifact], own: Mapping[str, Artifact], weth: bytes
    ) -> None:
        self._chain = chain
        self._aave = aave
        self._own = own
        self._weth = weth

    def deploy(
        self,
        name: str,
        owner: bytes,
        listings: Mapping[str, Listing],
        emodes: Sequence[EModeSpec],
        flash_premium: int = 5,
    ) -> Market:
        """Return a market that lists `listings`; `flash_premium` in basis points."""
        chain = self._chain
        libraries = self._libraries(owner)
        provider = self._create(
            owner, "PoolAddressesProvider", ["string", "address"], [name, owner]
        )
        (strategy,) = chain.deploy_all(
            owner, [self._code("DefaultReserveInterestRateStrategyV2", ["address"], [provider])]
        )
        chain.send(owner, provider, "setACLAdmin(address)", [owner])
        acl, pool_code, configurator_code, template = chain.deploy_all(
            owner,
            [
                self._code("ACLManager", ["address"], [provider]),
                self._code("PoolInstance", ["address"] * 2, [provider, strategy], libraries),
                self._code("PoolConfiguratorInstance", [], [], libraries),
                self._own["borrower"].linked({}),
            ],
        )
        sources = [
            [item.address for item in listings.values()],
            [i.feed for i in listings.values()],
        ]
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
        pool = chain.call(provider, "getPool()", returns=["address"])
        configurator = chain.call(provider, "getPoolConfigurator()", returns=["address"])
        pool, configurator = _address(pool), _address(configurator)
        # An account without key stands in for the DAO treasury: it only ever receives.
        treasury = bytes.fromhex("7ea5" * 10)
        oracle_types = ["address", "address[]", "address[]", "address", "address", "uint256"]
        oracle, data_provider, a_token, v_token, crowd = chain.deploy_all(
            owner,
            [
                self._code("AaveOracle", oracle_types, [provider, *sources, _ZERO, _ZERO, _USD]),
                self._code("AaveProtocolDataProvider", ["address"], [provider]),
                self._code("ATokenInstance", ["address"] * 3, [pool, _ZERO, treasury]),
                self._code("VariableDebtTokenInstance", ["address"] * 2, [pool, _ZERO]),
                self._own["crowd"].linked({}) + encode(["address"], [template]),
            ],
        )
        chain.send_all(
            [
                call(owner, provider, "setPriceOracle(address)", [oracle]),
                call(owner, provider, "setPoolDataProvider(address)", [data_provider]),
                call(owner, configurator, "updateFlashloanPremium(uint128)", [flash_premium]),
            ]
        )
        self._list(owner, configurator, list(listings.values()), a_token, v_token)
        self._configure(owner, configurator, listings, emodes)
        tokens = {symbol: self._token(pool, item) for symbol, item in listings.items()}
        return Market(
            name, owner, provider, pool, configurator, oracle, acl, data_provider, strategy,
            treasury, crowd, tokens,
        )  # fmt: skip

    def fill(
        self, market: Market, lender: bytes, anchor: bytes, specs: Sequence[ReserveSpec]
    ) -> None:
        """Supply every reserve from `lender`, and borrow from it by the well-covered `anchor`.

        The crowd gets collateral for the borrowers to come. Interest then runs on every reserve.
        """
        chain, pool = self._chain, market.pool
        grants, supplies, borrows = [], [], []
        cover = market.tokens["sUSDe" if "sUSDe" in market.tokens else "DAI"]
        debt = sum(spec.borrowed for spec in specs)
        for spec in specs:
            token = market.tokens[spec.symbol]
            amount = self.amount(market, token, spec.liquidity)
            crowd = self.amount(market, token, _CROWD_USD)
            grants += [(token.address, lender, amount), (token.address, market.crowd, crowd)]
            supplies += [
                call(lender, token.address, "approve(address,uint256)", [pool, _MAX]),
                _supply(lender, pool, token, amount),
                call(market.owner, market.crowd, "approve(address,address)", [token.address, pool]),
            ]
            if spec.borrowed:
                borrowed = self.amount(market, token, spec.borrowed)
                args = [token.address, borrowed, 2, 0, anchor]
                signature = "borrow(address,uint256,uint256,uint16,address)"
                borrows.append(call(anchor, pool, signature, args))
        covering = self.amount(market, cover, 4 * debt)
        grants.append((cover.address, anchor, covering))
        mint(chain, market.owner, self._weth, grants)
        chain.send_all(supplies)
        chain.send_all(
            [
                call(anchor, cover.address, "approve(address,uint256)", [pool, _MAX]),
                _supply(anchor, pool, cover, covering),
                *borrows,
            ]
        )

    def amount(self, market: Market, token: Token, usd: int) -> int:
        """Return the wei of a token worth `usd` whole dollars at the market's price, rounded down."""
        price = self._chain.call(market.oracle, "getAssetPrice(address)", [token.address])
        return int(usd * _USD * 10**token.decimals // price)

    def _libraries(self, owner: bytes) -> dict[str, bytes]:
        codes = [self._aave[name].linked({}) for name in _LIBRARIES]
        libraries = dict(zip(_LIBRARIES, self._chain.deploy_all(owner, codes), strict=True))
        flash = self._aave["FlashLoanLogic"].linked(libraries)
        return libraries | {"FlashLoanLogic": self._chain.deploy(owner, flash)}

    def _list(
        self, owner: bytes, configurator: bytes, listings: Sequence[Listing], a: bytes, v: bytes
    ) -> None:
        for item in listings:
            symbol = item.spec.symbol
            rates = encode(["uint16", "uint32", "uint32", "uint32"], item.spec.rates)
            names = [f"Aave {symbol}", f"a{symbol}", f"Aave debt {symbol}", f"variableDebt{symbol}"]
            entry = (a, v, item.address, *names, b"", rates)
            self._chain.send(owner, configurator, _INIT, [[entry]], gas=8_000_000)

    def _configure(
        self,
        owner: bytes,
        configurator: bytes,
        listings: Mapping[str, Listing],
        emodes: Sequence[EModeSpec],
    ) -> None:
        todo: list[Transaction] = []

        def configure(signature: str, *args: object) -> None:
            todo.append(call(owner, configurator, signature, args))

        for item in listings.values():
            asset, spec = item.address, item.spec
            configure(
                "configureReserveAsCollateral(address,uint256,uint256,uint256)",
                asset, spec.ltv, spec.threshold, spec.bonus,
            )  # fmt: skip
            configure("setLiquidationProtocolFee(address,uint256)", asset, spec.fee)
            configure("setReserveFactor(address,uint256)", asset, spec.reserve_factor)
            configure("setReserveFlashLoaning(address,bool)", asset, True)
            if spec.borrowable:
                configure("setReserveBorrowing(address,bool)", asset, True)
        for mode in emodes:
            todo += self._emode_calls(owner, configurator, listings, mode)
        self._chain.send_all(todo)

    def _emode_calls(
        self,
        owner: bytes,
        configurator: bytes,
        listings: Mapping[str, Listing],
        mode: EModeSpec,
    ) -> list[Transaction]:
        terms = [mode.id, mode.ltv, mode.threshold, mode.bonus, mode.label]
        signature = "setEModeCategory(uint8,uint16,uint16,uint16,string)"
        listed = (
            ("setAssetCollateralInEMode", mode.collateral),
            ("setAssetBorrowableInEMode", mode.borrowable),
        )
        return [
            call(owner, configurator, signature, terms),
            *(
                call(
                    owner,
                    configurator,
                    f"{name}(address,uint8,bool)",
                    [listings[symbol].address, mode.id, True],
                )
                for name, symbols in listed
                for symbol in symbols
            ),
        ]

    def _token(self, pool: bytes, item: Listing) -> Token:
        a = self._chain.call(pool, "getReserveAToken(address)", [item.address], ["address"])
        v = self._chain.call(
            pool, "getReserveVariableDebtToken(address)", [item.address], ["address"]
        )
        spec = item.spec
        return Token(
            spec.symbol, item.address, spec.decimals, _address(a), _address(v), spec.source,
            item.feed, item.base, spec.ltv, spec.threshold,
        )  # fmt: skip

    def _create(self, owner: bytes, name: str, types: list[str], args: list[object]) -> bytes:
        return self._chain.deploy(owner, self._code(name, types, args))

    def _code(
        self,
        name: str,
        types: Sequence[str],
        args: Sequence[object],
        libraries: Mapping[str, bytes] | None = None,
    ) -> bytes:
        return self._aave[name].linked(libraries or {}) + encode(types, args)


def _supply(sender: bytes, pool: bytes, token: Token, amount: int) -> Transaction:
    args = [token.address, amount, sender, 0]
    return call(sender, pool, "supply(address,uint256,address,uint16)", args)


def _address(text: str) -> bytes:
    return bytes.fromhex(text[2:])
