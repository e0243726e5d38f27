# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Stand-in for Maker's GemJoin
@license MIT
@notice Written for tests by the formulas of makerdao/dss (join.sol): it proves nothing of Maker.
"""
from ethereum.ercs import IERC20

interface IVat:
    def slip(ilk: bytes32, usr: address, wad: int256): nonpayable

vat: public(immutable(address))
ilk: public(immutable(bytes32))
gem: public(immutable(address))


@deploy
def __init__(vat_: address, ilk_: bytes32, gem_: address):
    vat = vat_
    ilk = ilk_
    gem = gem_


@external
def join(usr: address, wad: uint256):
    extcall IVat(vat).slip(ilk, usr, convert(wad, int256))
    assert extcall IERC20(gem).transferFrom(msg.sender, self, wad)


@external
def exit(usr: address, wad: uint256):
    extcall IVat(vat).slip(ilk, msg.sender, -convert(wad, int256))
    assert extcall IERC20(gem).transfer(usr, wad)
