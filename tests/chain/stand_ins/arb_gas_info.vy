# pragma version 0.4.3
# pragma evm-version cancun
"""
@notice A stand-in for Arbitrum's ArbGasInfo precompile: prices in wei, as its source orders them.
"""
pricePerUnit: uint256
minimumBaseFee: uint256


@external
@view
def getPricesInWei() -> (uint256, uint256, uint256, uint256, uint256, uint256):
    perByte: uint256 = self.pricePerUnit * 16
    base: uint256 = min(self.minimumBaseFee, block.basefee)
    return (
        perByte * 140,
        perByte,
        block.basefee * 20_000,
        base,
        block.basefee - base,
        block.basefee,
    )
