# pragma version 0.4.3
# pragma evm-version cancun
# @title Price = base feed less a discount that shrinks to zero at maturity; emits nothing
# @notice The price of a principal token changes with every block although nobody posts it
# @license MIT

interface Feed:
    def latestAnswer() -> int256: view
    def decimals() -> uint8: view

WAD: constant(uint256) = 10**18
SECONDS_PER_YEAR: constant(uint256) = 31_536_000

ASSET_TO_USD_AGGREGATOR: public(immutable(Feed))
MATURITY: public(immutable(uint256))
description: public(String[32])
owner: public(immutable(address))
discountRatePerYear: public(uint256)


@deploy
def __init__(description_: String[32], base: address, maturity: uint256, discount_per_year: uint256):
    ASSET_TO_USD_AGGREGATOR = Feed(base)
    MATURITY = maturity
    owner = msg.sender
    self.description = description_
    self.discountRatePerYear = discount_per_year


@external
def setDiscountRatePerYear(rate: uint256):
    assert msg.sender == owner, "not owner"
    self.discountRatePerYear = rate


@internal
@view
def _discount() -> uint256:
    if block.timestamp >= MATURITY:
        return 0
    return (MATURITY - block.timestamp) * self.discountRatePerYear // SECONDS_PER_YEAR


@external
@view
def getCurrentDiscount() -> uint256:
    return self._discount()


@external
@view
def decimals() -> uint8:
    return staticcall ASSET_TO_USD_AGGREGATOR.decimals()


@external
@view
def latestAnswer() -> int256:
    base: int256 = staticcall ASSET_TO_USD_AGGREGATOR.latestAnswer()
    discount: uint256 = self._discount()
    if base <= 0 or discount >= WAD:
        return 0
    return base * convert(WAD - discount, int256) // convert(WAD, int256)
