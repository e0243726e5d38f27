# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Stand-in for Maker's Vat, Dog, Clipper and joins of one kind of collateral
@license MIT
@notice Written for tests, in one contract, by the formulas of makerdao/dss: it proves nothing of Maker.
@dev
    Names and units are dss's: wad amounts, ray rates and prices, rad money. What differs: all stands in
    one contract; the dollar is a token this contract holds a stock of instead of minting it; urns are
    opened by `frob_for`; the oracle is `poke`; the price falls by the stairs of abaci.sol alone.
"""
from ethereum.ercs import IERC20

WAD: constant(uint256) = 10**18
RAY: constant(uint256) = 10**27

interface ClipperCallee:
    def clipperCall(sender: address, owe: uint256, part: uint256, data: Bytes[512]): nonpayable

event Bark:
    ilk: indexed(bytes32)
    urn: indexed(address)
    ink: uint256
    art: uint256
    due: uint256
    clip: address
    id: indexed(uint256)

event Kick:
    id: indexed(uint256)
    top: uint256
    tab: uint256
    lot: uint256
    usr: indexed(address)
    kpr: indexed(address)
    coin: uint256

event Take:
    id: indexed(uint256)
    max: uint256
    price: uint256
    owe: uint256
    tab: uint256
    lot: uint256
    usr: indexed(address)

event Redo:
    id: indexed(uint256)
    top: uint256
    tab: uint256
    lot: uint256
    usr: indexed(address)
    kpr: indexed(address)
    coin: uint256

struct Urn:
    ink: uint256
    art: uint256

struct Sale:
    pos: uint256
    tab: uint256
    lot: uint256
    usr: address
    tic: uint256
    top: uint256

ILK: constant(bytes32) = 0x5748454154000000000000000000000000000000000000000000000000000000

collateral: public(immutable(address))
dollar: public(immutable(address))

urns: public(HashMap[address, Urn])
gem: public(HashMap[address, uint256])
dai: public(HashMap[address, uint256])
can: public(HashMap[address, HashMap[address, bool]])
rate: public(uint256)
spot: public(uint256)
feed: public(uint256)
dust: public(uint256)
chop: public(uint256)
hole: public(uint256)
dirt: public(uint256)
buf: public(uint256)
tail: public(uint256)
cusp: public(uint256)
chip: public(uint256)
tip: public(uint256)
cut: public(uint256)
step: public(uint256)
stopped: public(uint256)
kicks: public(uint256)
sales: public(HashMap[uint256, Sale])
active: public(DynArray[uint256, 64])


@deploy
def __init__(collateral_: address, dollar_: address, feed: uint256):
    collateral = collateral_
    dollar = dollar_
    self.rate = RAY
    self.dust = 5_000 * 10**45
    self.chop = 113 * 10**16
    self.hole = 10_000_000 * 10**45
    self.buf = 12 * 10**26
    self.tail = 8_400
    self.cusp = 4 * 10**26
    self.chip = 10**15
    self.tip = 100 * 10**45
    self.cut = 99 * 10**25
    self.step = 90
    self._poke(feed)


@external
def poke(feed: uint256):
    self._poke(feed)


@internal
def _poke(feed: uint256):
    # The liquidation ratio is 150 %.
    self.feed = feed
    self.spot = feed * 10 // 15


@external
def stop(level: uint256):
    self.stopped = level


@external
def frob_for(urn: address, ink: uint256, art: uint256):
    """
    @notice Open an urn: the collateral comes from the caller, the dollars go to nobody.
    """
    assert extcall IERC20(collateral).transferFrom(msg.sender, self, ink)
    self.urns[urn].ink += ink
    self.urns[urn].art += art


@external
def hope(usr: address):
    self.can[msg.sender][usr] = True


@external
def join_dai(usr: address, wad: uint256):
    assert extcall IERC20(dollar).transferFrom(msg.sender, self, wad)
    self.dai[usr] += wad * RAY


@external
def exit_dai(usr: address, wad: uint256):
    self.dai[msg.sender] -= wad * RAY
    assert extcall IERC20(dollar).transfer(usr, wad)


@external
def exit_gem(usr: address, wad: uint256):
    self.gem[msg.sender] -= wad
    assert extcall IERC20(collateral).transfer(usr, wad)


@external
def bark(ilk: bytes32, urn: address, kpr: address) -> uint256:
    assert self.stopped < 1, "Clipper/stopped-incorrect"
    held: Urn = self.urns[urn]
    rate: uint256 = self.rate
    assert self.spot > 0 and held.ink * self.spot < held.art * rate, "Dog/not-unsafe"
    assert self.hole > self.dirt, "Dog/liquidation-limit-hit"
    dart: uint256 = min(held.art, (self.hole - self.dirt) * WAD // rate // self.chop)
    if held.art > dart:
        if (held.art - dart) * rate < self.dust:
            dart = held.art
        else:
            assert dart * rate >= self.dust, "Dog/dusty-auction-from-partial-liquidation"
    dink: uint256 = held.ink * dart // held.art
    assert dink > 0, "Dog/null-auction"
    self.urns[urn] = Urn(ink=held.ink - dink, art=held.art - dart)
    due: uint256 = dart * rate
    tab: uint256 = due * self.chop // WAD
    self.dirt += tab
    id: uint256 = self.kicks + 1
    self.kicks = id
    top: uint256 = self.feed * self.buf // RAY
    self.sales[id] = Sale(
        pos=len(self.active), tab=tab, lot=dink, usr=urn, tic=block.timestamp, top=top
    )
    self.active.append(id)
    coin: uint256 = self.tip + tab * self.chip // WAD
    self.dai[kpr] += coin
    log Bark(ilk=ilk, urn=urn, ink=dink, art=dart, due=due, clip=self, id=id)
    log Kick(id=id, top=top, tab=tab, lot=dink, usr=urn, kpr=kpr, coin=coin)
    return id


@external
def redo(id: uint256, kpr: address):
    assert self.stopped < 2, "Clipper/stopped-incorrect"
    sale: Sale = self.sales[id]
    assert sale.usr != empty(address), "Clipper/not-running-auction"
    done: bool = False
    price: uint256 = 0
    done, price = self._status(sale.tic, sale.top)
    assert done, "Clipper/cannot-reset"
    top: uint256 = self.feed * self.buf // RAY
    self.sales[id].tic = block.timestamp
    self.sales[id].top = top
    coin: uint256 = 0
    chost: uint256 = self._chost()
    if sale.tab >= chost and sale.lot * self.feed >= chost:
        coin = self.tip + sale.tab * self.chip // WAD
        self.dai[kpr] += coin
    log Redo(id=id, top=top, tab=sale.tab, lot=sale.lot, usr=sale.usr, kpr=kpr, coin=coin)


@external
@nonreentrant
def take(id: uint256, amt: uint256, most: uint256, who: address, data: Bytes[512]):
    assert self.stopped < 3, "Clipper/stopped-incorrect"
    sale: Sale = self.sales[id]
    assert sale.usr != empty(address), "Clipper/not-running-auction"
    done: bool = False
    price: uint256 = 0
    done, price = self._status(sale.tic, sale.top)
    assert not done, "Clipper/needs-reset"
    assert most >= price, "Clipper/too-expensive"
    part: uint256 = min(sale.lot, amt)
    owe: uint256 = part * price
    if owe > sale.tab:
        owe = sale.tab
        part = owe // price
    elif owe < sale.tab and part < sale.lot:
        chost: uint256 = self._chost()
        if sale.tab - owe < chost:
            assert sale.tab > chost, "Clipper/no-partial-purchase"
            owe = sale.tab - chost
            part = owe // price
    tab: uint256 = sale.tab - owe
    lot: uint256 = sale.lot - part
    self.gem[who] += part
    if len(data) > 0 and who != self:
        self._call(who, owe, part, data)
    # vat.move needs the taker's hope, and its money.
    assert msg.sender == self or self.can[msg.sender][self], "Vat/not-allowed"
    self.dai[msg.sender] -= owe
    if lot == 0:
        self.dirt -= tab + owe
    else:
        self.dirt -= owe
    if lot == 0:
        self._remove(id)
    elif tab == 0:
        self.gem[sale.usr] += lot
        self._remove(id)
    else:
        self.sales[id].tab = tab
        self.sales[id].lot = lot
    log Take(id=id, max=most, price=price, owe=owe, tab=tab, lot=lot, usr=sale.usr)


@internal
def _remove(id: uint256):
    last: uint256 = self.active.pop()
    if last != id:
        place: uint256 = self.sales[id].pos
        self.active[place] = last
        self.sales[last].pos = place
    self.sales[id] = empty(Sale)


@internal
def _call(who: address, owe: uint256, part: uint256, data: Bytes[512]):
    extcall ClipperCallee(who).clipperCall(msg.sender, owe, part, data)


@external
@view
def calc() -> address:
    return self


@external
@view
def count() -> uint256:
    return len(self.active)


@external
@view
def chost() -> uint256:
    return self._chost()


@internal
@view
def _chost() -> uint256:
    return self.dust * self.chop // WAD


@external
@view
def status(id: uint256) -> (bool, uint256, uint256, uint256):
    """
    @return Whether it has to be started anew, price, lot, tab.
    """
    sale: Sale = self.sales[id]
    done: bool = False
    price: uint256 = 0
    done, price = self._status(sale.tic, sale.top)
    return sale.usr != empty(address) and done, price, sale.lot, sale.tab


@internal
@view
def _status(tic: uint256, top: uint256) -> (bool, uint256):
    duration: uint256 = block.timestamp - tic
    price: uint256 = top * self._rpow(self.cut, duration // self.step) // RAY
    return duration > self.tail or price * RAY // top < self.cusp, price


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
