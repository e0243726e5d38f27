# pragma version 0.4.3
# pragma evm-version cancun
# @title Price = min(exchange rate, a ceiling that grows by the second) x base feed; emits nothing
# @license MIT

interface Feed:
    def latestAnswer() -> int256: view
    def decimals() -> uint8: view

WAD: constant(int256) = 10**18

BASE_TO_USD_AGGREGATOR: public(immutable(Feed))
description: public(String[32])
owner: public(immutable(address))
getSnapshotRatio: public(immutable(int256))
getSnapshotTimestamp: public(immutable(uint256))
getMaxRatioGrowthPerSecond: public(immutable(int256))
getRatio: public(int256)


@deploy
def __init__(description_: String[32], base: address, ratio: int256, growth_per_second: int256):
    BASE_TO_USD_AGGREGATOR = Feed(base)
    owner = msg.sender
    getSnapshotRatio = ratio
    getSnapshotTimestamp = block.timestamp
    getMaxRatioGrowthPerSecond = growth_per_second
    self.description = description_
    self.getRatio = ratio


@external
def setRatio(ratio: int256):
    assert msg.sender == owner, "not owner"
    self.getRatio = ratio


@internal
@view
def _ceiling() -> int256:
    elapsed: int256 = convert(block.timestamp - getSnapshotTimestamp, int256)
    return getSnapshotRatio + getMaxRatioGrowthPerSecond * elapsed


@external
@view
def isCapped() -> bool:
    return self.getRatio > self._ceiling()


@external
@view
def decimals() -> uint8:
    return staticcall BASE_TO_USD_AGGREGATOR.decimals()


@external
@view
def latestAnswer() -> int256:
    base: int256 = staticcall BASE_TO_USD_AGGREGATOR.latestAnswer()
    if base <= 0 or self.getRatio <= 0:
        return 0
    return base * min(self.getRatio, self._ceiling()) // WAD
