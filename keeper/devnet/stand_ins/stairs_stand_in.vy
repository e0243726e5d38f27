# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Stand-in for Maker's StairstepExponentialDecrease
@license MIT
@notice Written for tests by the formulas of makerdao/dss (abaci.sol): it proves nothing of Maker.
"""
RAY: constant(uint256) = 10**27

cut: public(uint256)
step: public(uint256)


@deploy
def __init__(cut_: uint256, step_: uint256):
    self.cut = cut_
    self.step = step_


@external
def file(what: bytes32, data: uint256):
    if what == convert(b"cut", bytes32):
        self.cut = data
    else:
        assert what == convert(b"step", bytes32), "StairstepExponentialDecrease/file-unrecognized-param"
        self.step = data


@external
@view
def price(top: uint256, dur: uint256) -> uint256:
    return top * self._rpow(self.cut, dur // self.step) // RAY


@internal
@pure
def _rpow(base: uint256, exponent: uint256) -> uint256:
    found: uint256 = RAY
    x: uint256 = base
    n: uint256 = exponent
    if n % 2 == 1:
        found = x
    n = n // 2
    for _: uint256 in range(64):
        if n == 0:
            break
        x = (x * x + RAY // 2) // RAY
        if n % 2 == 1:
            found = (found * x + RAY // 2) // RAY
        n = n // 2
    return found
