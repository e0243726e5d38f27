# pragma version 0.4.3
# pragma evm-version cancun
"""
@title CryptoSwapStandIn
@notice Written for tests: a two-coin pool that follows the published formulas of Curve's crypto pools
    for one exchange, and never moves its price scale. It is not Curve's contract, and proves nothing
    about it.
"""
from ethereum.ercs import IERC20

event TokenExchange:
    buyer: indexed(address)
    sold_id: uint256
    tokens_sold: uint256
    bought_id: uint256
    tokens_bought: uint256

ONE: constant(uint256) = 10**18
MULTIPLIER: constant(uint256) = 10000

coins: public(address[2])
balances: public(uint256[2])
units: uint256[2]
A: public(uint256)
gamma: public(uint256)
D: public(uint256)
price_scale: public(uint256)
mid_fee: public(uint256)
out_fee: public(uint256)
fee_gamma: public(uint256)
future_A_gamma_time: public(uint256)

@deploy
def __init__(coins: address[2], units: uint256[2], price: uint256, d: uint256):
    self.coins = coins
    self.units = units
    self.price_scale = price
    self.D = d
    self.A = 400000
    self.gamma = 145000000000000
    self.mid_fee = 26000000
    self.out_fee = 45000000
    self.fee_gamma = 230000000000000

@external
def fund(amounts: uint256[2]):
    for i: uint256 in range(2):
        assert extcall IERC20(self.coins[i]).transferFrom(msg.sender, self, amounts[i])
        self.balances[i] += amounts[i]

@internal
@view
def scaled(held: uint256[2]) -> uint256[2]:
    return [held[0] * self.units[0], held[1] * self.units[1] * self.price_scale // ONE]

@internal
@view
def left(x: uint256) -> uint256:
    d: uint256 = self.D
    gamma: uint256 = self.gamma
    y: uint256 = d * d // (x * 4)
    part: uint256 = ONE * 2 * x // d
    limit: uint256 = max(max(x // 10**14, d // 10**14), 100)
    for _: uint256 in range(255):
        last: uint256 = y
        k: uint256 = part * y * 2 // d
        lean: uint256 = gamma + ONE
        if lean > k:
            lean = lean - k + 1
        else:
            lean = k - lean + 1
        first: uint256 = ONE * d // gamma * lean // gamma * lean * MULTIPLIER // self.A
        second: uint256 = ONE + 2 * ONE * k // lean
        slope: uint256 = ONE * y + (x + y) * second + first
        if slope < d * second:
            y = last // 2
            continue
        slope -= d * second
        prime: uint256 = slope // y
        minus: uint256 = first // prime
        plus: uint256 = (slope + ONE * d) // prime + minus * ONE // k
        minus += ONE * (x + y) // prime
        if plus < minus:
            y = last // 2
        else:
            y = plus - minus
        if max(y, last) - min(y, last) < max(limit, y // 10**14):
            return y
    raise "y"

@internal
@view
def traded(i: uint256, j: uint256, dx: uint256) -> uint256:
    held: uint256[2] = self.balances
    held[i] += dx
    xp: uint256[2] = self.scaled(held)
    y: uint256 = self.left(xp[i])
    out: uint256 = xp[j] - y - 1
    xp[j] = y
    if j == 1:
        out = out * ONE // self.price_scale
    out = out // self.units[j]
    total: uint256 = xp[0] + xp[1]
    near: uint256 = self.fee_gamma * ONE // (
        self.fee_gamma + ONE - ONE * 4 * xp[0] // total * xp[1] // total
    )
    return out - (self.mid_fee * near + self.out_fee * (ONE - near)) // ONE * out // 10**10

@external
@view
def get_dy(i: uint256, j: uint256, dx: uint256) -> uint256:
    return self.traded(i, j, dx)

@external
def exchange(i: uint256, j: uint256, dx: uint256, min_dy: uint256) -> uint256:
    out: uint256 = self.traded(i, j, dx)
    assert out >= min_dy
    self.balances[i] += dx
    self.balances[j] -= out
    assert extcall IERC20(self.coins[i]).transferFrom(msg.sender, self, dx)
    assert extcall IERC20(self.coins[j]).transfer(msg.sender, out)
    log TokenExchange(buyer=msg.sender, sold_id=i, tokens_sold=dx, bought_id=j, tokens_bought=out)
    return out
