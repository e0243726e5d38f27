# pragma version 0.4.3
# pragma evm-version cancun
# @title What Venus stands among: oracles with an Aave oracle's prices, access control that allows all,
#        a share reserve and a VAI controller without VAI
# @license MIT

interface Prices:
    def getAssetPrice(asset: address) -> uint256: view

PRICES: immutable(Prices)
assets: HashMap[address, address]
scales: HashMap[address, uint256]
fixed: HashMap[address, uint256]
owed: HashMap[address, uint256]


@deploy
def __init__(prices: address):
    PRICES = Prices(prices)


@external
def list(token: address, asset: address, decimals: uint256):
    """
    @notice Price a token by an asset: an Aave price has 8 decimals, one here 36 less the asset's.
    """
    self.assets[token] = asset
    self.scales[token] = 10 ** (28 - decimals)


@external
def fix(token: address, price: uint256, is_fixed: bool):
    """
    @notice Give a token a price of its own, even 0, or let it follow again.
    """
    self.fixed[token] = price + 1 if is_fixed else 0


@internal
@view
def _price(token: address) -> uint256:
    if self.fixed[token] != 0:
        return self.fixed[token] - 1
    return staticcall PRICES.getAssetPrice(self.assets[token]) * self.scales[token]


@external
@view
def getUnderlyingPrice(token: address) -> uint256:
    return self._price(token)


@external
@view
def getBoundedPricesView(token: address) -> (uint256, uint256):
    price: uint256 = self._price(token)
    return price, price


@external
def updateProtectionState(token: address):
    pass


@external
@view
def isAllowedToCall(account: address, signature: String[128]) -> bool:
    return True


@external
def updateAssetsState(comptroller: address, asset: address, kind: uint256):
    pass


@external
def accrueVAIInterest():
    pass


@external
@view
def getVAIRepayAmount(account: address) -> uint256:
    return self.owed[account]


@external
@payable
def __default__():
    pass
