# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Auctioneer
@license MIT
@notice Starts, starts anew and takes the auctions of one Clipper of Maker's for whoever calls.
@dev
    Maker's Vat lets those whom an account named by `hope` move its internal dollars. This contract names two
    while it is deployed, and nobody later: the Clipper and the join that turns dollars into tokens. So the
    liquidator needs no `hope`, and nobody who runs it can give one.

    What holds, whoever calls: each call hands the caller all it brings and takes from it no more than it
    says. Between two calls nothing is here but less than a wei of internal dollars for each. Auctions are
    named by their number in the last 8 bytes of a word; what stands before is not looked at.
"""
from ethereum.ercs import IERC20

RAY: constant(uint256) = 10**27
NUMBER: constant(uint256) = 2**64 - 1

interface IClipper:
    def ilk() -> bytes32: view
    def vat() -> address: view
    def dog() -> address: view
    def getStatus(id: uint256) -> (bool, uint256, uint256, uint256): view
    def take(id: uint256, amt: uint256, most: uint256, who: address, data: Bytes[1]): nonpayable
    def redo(id: uint256, kpr: address): nonpayable

interface IDog:
    def bark(ilk: bytes32, urn: address, kpr: address) -> uint256: nonpayable

interface IVat:
    def hope(usr: address): nonpayable
    def dai(usr: address) -> uint256: view

interface IGemJoin:
    def ilk() -> bytes32: view
    def vat() -> address: view
    def exit(usr: address, wad: uint256): nonpayable

interface IDollarJoin:
    def dai() -> address: view
    def vat() -> address: view
    def join(usr: address, wad: uint256): nonpayable
    def exit(usr: address, wad: uint256): nonpayable

clip: public(immutable(address))
dog: public(immutable(address))
vat: public(immutable(address))
gem_join: public(immutable(address))
dollar_join: public(immutable(address))
dollar: public(immutable(address))
ilk: public(immutable(bytes32))

payer: transient(address)


@deploy
def __init__(clip_: address, gem_join_: address, dollar_join_: address):
    """
    @notice Name one Clipper, the join of its collateral and the dollar's.
    """
    clip = clip_
    gem_join = gem_join_
    dollar_join = dollar_join_
    dog = staticcall IClipper(clip_).dog()
    vat = staticcall IClipper(clip_).vat()
    ilk = staticcall IClipper(clip_).ilk()
    dollar = staticcall IDollarJoin(dollar_join_).dai()
    assert vat == staticcall IGemJoin(gem_join_).vat(), "gem join of another Vat"
    assert ilk == staticcall IGemJoin(gem_join_).ilk(), "gem join of another collateral"
    assert vat == staticcall IDollarJoin(dollar_join_).vat(), "dollar join of another Vat"
    extcall IVat(vat).hope(clip_)
    extcall IVat(vat).hope(dollar_join_)
    assert extcall IERC20(dollar).approve(dollar_join_, max_value(uint256))


@external
@nonreentrant
def take(name: uint256, pay: uint256):
    """
    @notice Buy as much of an auction as so many dollars of the caller's pay, at the price of this block.
    """
    done: bool = False
    price: uint256 = 0
    lot: uint256 = 0
    tab: uint256 = 0
    done, price, lot, tab = staticcall IClipper(clip).getStatus(name & NUMBER)
    assert not done and price != 0, "not for sale"
    # Where the money is enough for all that is wanted, a part rounded down would leave too little of it.
    amount: uint256 = lot
    if pay * RAY < tab:
        amount = min(lot, pay * RAY // price)
    self.payer = msg.sender
    extcall IClipper(clip).take(name & NUMBER, amount, price, self, b"\x01")
    self.payer = empty(address)


@external
def clipperCall(sender: address, owe: uint256, part: uint256, data: Bytes[1]):
    """
    @notice Hand the collateral of the take in progress to who asked for it, and pay with that one's dollars.
    """
    payer: address = self.payer
    assert msg.sender == clip and sender == self and payer != empty(address), "not asked for"
    extcall IGemJoin(gem_join).exit(payer, part)
    due: uint256 = (owe + RAY - 1) // RAY
    assert extcall IERC20(dollar).transferFrom(payer, self, due)
    extcall IDollarJoin(dollar_join).join(self, due)


@external
@nonreentrant
def bark(urn: address):
    """
    @notice Start the auction of an unsafe urn; the caller is paid its reward.
    """
    extcall IDog(dog).bark(ilk, urn, self)
    self._pay_out()


@external
@nonreentrant
def redo(name: uint256):
    """
    @notice Start an auction anew whose time or price ran out; the caller is paid its reward, if there is one.
    """
    extcall IClipper(clip).redo(name & NUMBER, self)
    self._pay_out()


@internal
def _pay_out():
    due: uint256 = staticcall IVat(vat).dai(self) // RAY
    if due != 0:
        extcall IDollarJoin(dollar_join).exit(msg.sender, due)


@external
@view
def for_sale(name: uint256) -> uint256:
    """
    @notice Tell how much collateral of an auction can be taken now.
    """
    done: bool = False
    price: uint256 = 0
    lot: uint256 = 0
    tab: uint256 = 0
    done, price, lot, tab = staticcall IClipper(clip).getStatus(name & NUMBER)
    if done:
        return 0
    return lot


@external
@view
def ended(name: uint256) -> uint256:
    """
    @notice Tell how much collateral of an auction waits for it to be started anew.
    """
    done: bool = False
    price: uint256 = 0
    lot: uint256 = 0
    tab: uint256 = 0
    done, price, lot, tab = staticcall IClipper(clip).getStatus(name & NUMBER)
    if done:
        return lot
    return 0
