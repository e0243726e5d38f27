# pragma version 0.4.3
# pragma evm-version cancun
# @title Stand-in for Morpho's adaptive rate model, by its documented formulas
# @license MIT

struct Params:
    loan: address
    collateral: address
    oracle: address
    irm: address
    lltv: uint256

struct Market:
    supply_assets: uint128
    supply_shares: uint128
    borrow_assets: uint128
    borrow_shares: uint128
    updated_at: uint128
    fee: uint128

event BorrowRateUpdate:
    id: indexed(bytes32)
    avgBorrowRate: uint256
    rateAtTarget: uint256

WAD: constant(int256) = 10**18
YEAR: constant(int256) = 365 * 86400
TARGET: constant(int256) = 9 * 10**17
STEEPNESS: constant(int256) = 4 * 10**18
LN_2: constant(int256) = 693147180559945309

rateAtTarget: public(HashMap[bytes32, int256])


@external
def borrowRate(params: Params, market: Market) -> uint256:
    id: bytes32 = keccak256(abi_encode(params))
    rate: int256 = 0
    end: int256 = 0
    rate, end = self._rate(id, market)
    self.rateAtTarget[id] = end
    log BorrowRateUpdate(id=id, avgBorrowRate=convert(rate, uint256), rateAtTarget=convert(end, uint256))
    return convert(rate, uint256)


@external
@view
def borrowRateView(params: Params, market: Market) -> uint256:
    rate: int256 = 0
    end: int256 = 0
    rate, end = self._rate(keccak256(abi_encode(params)), market)
    return convert(rate, uint256)


@internal
@view
def _rate(id: bytes32, market: Market) -> (int256, int256):
    use: int256 = 0
    if market.supply_assets != 0:
        use = convert(market.borrow_assets, int256) * WAD // convert(market.supply_assets, int256)
    room: int256 = TARGET
    if use > TARGET:
        room = WAD - TARGET
    error: int256 = (use - TARGET) * WAD // room
    start: int256 = self.rateAtTarget[id]
    average: int256 = start
    end: int256 = start
    if start == 0:
        average = 4 * 10**16 // YEAR
        end = average
    else:
        speed: int256 = (50 * WAD // YEAR) * error // WAD
        change: int256 = speed * convert(block.timestamp - convert(market.updated_at, uint256), int256)
        if change != 0:
            end = self._moved(start, change)
            average = (start + end + 2 * self._moved(start, change // 2)) // 4
    slope: int256 = STEEPNESS - WAD
    if error < 0:
        slope = WAD - WAD * WAD // STEEPNESS
    return (slope * error // WAD + WAD) * average // WAD, end


@internal
@pure
def _moved(start: int256, change: int256) -> int256:
    moved: int256 = start * self._exp(change) // WAD
    return min(max(moved, 10**15 // YEAR), 2 * WAD // YEAR)


@internal
@pure
def _exp(x: int256) -> int256:
    if x < -41446531673892822312:
        return 0
    half: int256 = LN_2 // 2
    if x < 0:
        half = -half
    power: int256 = (x + half) // LN_2
    rest: int256 = x - power * LN_2
    base: int256 = WAD + rest + rest * rest // WAD // 2
    if power >= 0:
        return base << convert(power, uint256)
    return base >> convert(-power, uint256)
