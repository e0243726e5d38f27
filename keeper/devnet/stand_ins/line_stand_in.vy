# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Stand-in for Maker's LinearDecrease
@license MIT
@notice Written for tests by the formulas of makerdao/dss (abaci.sol): it proves nothing of Maker.
"""
RAY: constant(uint256) = 10**27

tau: public(immutable(uint256))


@deploy
def __init__(tau_: uint256):
    tau = tau_


@external
@view
def price(top: uint256, dur: uint256) -> uint256:
    if dur >= tau:
        return 0
    return top * ((tau - dur) * RAY // tau) // RAY
