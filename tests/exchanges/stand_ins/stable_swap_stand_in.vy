# pragma version 0.4.3
# pragma evm-version cancun
"""
@title StableSwapStandIn
@notice Written for tests: a three-coin pool that follows the published StableSwap formulas. It is not
    Curve's contract, and proves nothing about it.
"""
from ethereum.ercs import IERC20

event TokenExchange:
    buyer: indexed(address)
    sold_id: int128
    tokens_sold: uint256
    bought_id: int128
    tokens_bought: uint256

ONE: constant(uint256) = 10**18
FEE_ONE: constant(uint256) = 10**10
PRECISION: constant(uint256) = 100

coins: public(address[3])
balances: public(uint256[3])
rates: uint256[3]
fee: public(uint256)
admin_fee: public(uint256)
future_A_time: public(uint256)
amplification: uint256

@deploy
def __init__(coins: address[3], rates: uint256[3], amplification: uint256, fee: uint256, admin_fee: uint256):
    self.coins = coins
    self.rates = rates
    self.amplification = amplification
    self.fee = fee
    self.admin_fee = admin_fee

@external
@view
def A() -> uint256:
    return self.amplification // PRECISION

@external
@view
def A_precise() -> uint256:
    return self.amplification

@external
def ramp(ends: uint256):
    self.future_A_time = ends

@external
def fund(amounts: uint256[3]):
    for i: uint256 in range(3):
        assert extcall IERC20(self.coins[i]).transferFrom(msg.sender, self, amounts[i])
        self.balances[i] += amounts[i]

@internal
@view
def scaled() -> uint256[3]:
    held: uint256[3] = empty(uint256[3])
    for i: uint256 in range(3):
        held[i] = self.rates[i] * self.balances[i] // ONE
    return held

@internal
@view
def invariant(held: uint256[3]) -> uint256:
    total: uint256 = held[0] + held[1] + held[2]
    d: uint256 = total
    ann: uint256 = self.amplification * 3
    for _: uint256 in range(255):
        p: uint256 = d
        for x: uint256 in held:
            p = p * d // (x * 3)
        last: uint256 = d
        d = (ann * total // PRECISION + p * 3) * d // ((ann - PRECISION) * d // PRECISION + 4 * p)
        if max(d, last) - min(d, last) <= 1:
            return d
    raise "D"

@internal
@view
def left(sold: uint256, bought: uint256, x: uint256) -> uint256:
    held: uint256[3] = self.scaled()
    d: uint256 = self.invariant(held)
    ann: uint256 = self.amplification * 3
    c: uint256 = d
    total: uint256 = 0
    for i: uint256 in range(3):
        if i != bought:
            here: uint256 = held[i]
            if i == sold:
                here = x
            total += here
            c = c * d // (here * 3)
    c = c * d * PRECISION // (ann * 3)
    b: uint256 = total + d * PRECISION // ann
    y: uint256 = d
    for _: uint256 in range(255):
        last: uint256 = y
        y = (y * y + c) // (2 * y + b - d)
        if max(y, last) - min(y, last) <= 1:
            return y
    raise "y"

@internal
@view
def traded(i: int128, j: int128, dx: uint256) -> (uint256, uint256):
    sold: uint256 = convert(i, uint256)
    bought: uint256 = convert(j, uint256)
    held: uint256[3] = self.scaled()
    gross: uint256 = held[bought] - self.left(sold, bought, held[sold] + dx * self.rates[sold] // ONE) - 1
    taken: uint256 = gross * self.fee // FEE_ONE
    return (gross - taken) * ONE // self.rates[bought], taken * self.admin_fee // FEE_ONE * ONE // self.rates[bought]

@external
@view
def get_dy(i: int128, j: int128, dx: uint256) -> uint256:
    return self.traded(i, j, dx)[0]

@external
def exchange(i: int128, j: int128, dx: uint256, min_dy: uint256) -> uint256:
    out: uint256 = 0
    kept: uint256 = 0
    out, kept = self.traded(i, j, dx)
    assert out >= min_dy
    self.balances[convert(i, uint256)] += dx
    self.balances[convert(j, uint256)] -= out + kept
    assert extcall IERC20(self.coins[convert(i, uint256)]).transferFrom(msg.sender, self, dx)
    assert extcall IERC20(self.coins[convert(j, uint256)]).transfer(msg.sender, out)
    log TokenExchange(buyer=msg.sender, sold_id=i, tokens_sold=dx, bought_id=j, tokens_bought=out)
    return out
