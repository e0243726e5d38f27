# pragma version 0.4.3
# pragma evm-version cancun
"""
@notice A stand-in for the OP stack's GasPriceOracle: the fees since Fjord, as its source has them.
"""
l1BaseFee: public(uint256)
blobBaseFee: public(uint256)
baseFeeScalar: public(uint256)
blobBaseFeeScalar: public(uint256)
operatorConstant: uint256
operatorScalar: uint256

COST_INTERCEPT: constant(int256) = -42_585_600
COST_FASTLZ_COEF: constant(uint256) = 836_500
MIN_TRANSACTION_SIZE: constant(int256) = 100


@external
@view
def getL1FeeUpperBound(_unsignedTxSize: uint256) -> uint256:
    txSize: uint256 = _unsignedTxSize + 68
    flzUpperBound: uint256 = txSize + txSize // 255 + 16
    estimated: int256 = COST_INTERCEPT + convert(COST_FASTLZ_COEF * flzUpperBound, int256)
    if estimated < MIN_TRANSACTION_SIZE * 1_000_000:
        estimated = MIN_TRANSACTION_SIZE * 1_000_000
    feeScaled: uint256 = self.baseFeeScalar * 16 * self.l1BaseFee + self.blobBaseFeeScalar * self.blobBaseFee
    return convert(estimated, uint256) * feeScaled // 10**12


@external
@view
def getOperatorFee(_gasUsed: uint256) -> uint256:
    return _gasUsed * self.operatorScalar // 1_000_000 + self.operatorConstant
