# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Stand-in for Maker's DaiJoin
@license MIT
@notice Written for tests by the formulas of makerdao/dss (join.sol): it proves nothing of Maker.
@dev The dollar is a token this contract holds a stock of instead of minting and burning it.
"""
from ethereum.ercs import IERC20

RAY: constant(uint256) = 10**27

interface IVat:
    def move(src: address, dst: address, rad: uint256): nonpayable
    def suck(u: address, v: address, rad: uint256): nonpayable

vat: public(immutable(address))
dai: public(immutable(address))


@deploy
def __init__(vat_: address, dai_: address):
    vat = vat_
    dai = dai_


@external
def join(usr: address, wad: uint256):
    extcall IVat(vat).suck(self, usr, RAY * wad)
    assert extcall IERC20(dai).transferFrom(msg.sender, self, wad)


@external
def exit(usr: address, wad: uint256):
    extcall IVat(vat).move(msg.sender, self, RAY * wad)
    assert extcall IERC20(dai).transfer(usr, wad)
