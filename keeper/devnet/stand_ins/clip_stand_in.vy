# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Stand-in for Maker's Dog and Clipper of one kind of collateral
@license MIT
@notice Written for tests by the formulas of makerdao/dss (dog.sol, clip.sol): it proves nothing of Maker.
@dev
    Names and units are dss's: wad amounts, ray rates and prices, rad money. What differs: both stand in
    one contract; the oracle is `poke`, at a liquidation ratio of 150 %; nobody is refused for what only
    wards may do; what others put up at auction is `crowd`.
"""
WAD: constant(uint256) = 10**18
RAY: constant(uint256) = 10**27

interface ICallee:
    def clipperCall(sender: address, owe: uint256, part: uint256, data: Bytes[512]): nonpayable

interface ICalculator:
    def price(top: uint256, dur: uint256) -> uint256: view

interface IVat:
    def ilks(ilk: bytes32) -> (uint256, uint256, uint256, uint256, uint256): view
    def urns(ilk: bytes32, urn: address) -> (uint256, uint256): view
    def grab(i: bytes32, u: address, v: address, w: address, dink: int256, dart: int256): nonpayable
    def flux(ilk: bytes32, src: address, dst: address, wad: uint256): nonpayable
    def move(src: address, dst: address, rad: uint256): nonpayable
    def suck(u: address, v: address, rad: uint256): nonpayable
    def file(ilk: bytes32, what: bytes32, data: uint256): nonpayable

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

event Yank:
    id: uint256

struct Milk:
    clip: address
    chop: uint256
    hole: uint256
    dirt: uint256

struct Sale:
    pos: uint256
    tab: uint256
    lot: uint256
    usr: address
    tic: uint256
    top: uint256

vat: public(immutable(address))
ilk: public(immutable(bytes32))
vow: public(immutable(address))

milk: Milk
Hole: public(uint256)
Dirt: public(uint256)
live: public(uint256)

calc: public(address)
feed: public(uint256)
buf: public(uint256)
tail: public(uint256)
cusp: public(uint256)
chip: public(uint256)
tip: public(uint256)
chost: public(uint256)
stopped: public(uint256)
kicks: public(uint256)
sales: public(HashMap[uint256, Sale])
active: public(DynArray[uint256, 128])


@deploy
def __init__(vat_: address, ilk_: bytes32, vow_: address, calc_: address, feed: uint256):
    vat = vat_
    ilk = ilk_
    vow = vow_
    self.calc = calc_
    self.live = 1
    self.Hole = 50_000_000 * 10**45
    self.milk = Milk(clip=self, chop=113 * 10**16, hole=10_000_000 * 10**45, dirt=0)
    self.buf = 12 * 10**26
    self.tail = 8_400
    self.cusp = 4 * 10**26
    self.chip = 10**15
    self.tip = 100 * 10**45
    self._poke(feed)


@external
def poke(feed: uint256):
    self._poke(feed)


@internal
def _poke(feed: uint256):
    self.feed = feed
    extcall IVat(vat).file(ilk, convert(b"spot", bytes32), feed * 10 // 15)


@external
def upchost():
    self.chost = (staticcall IVat(vat).ilks(ilk))[4] * self.milk.chop // WAD


@external
def stop(level: uint256):
    self.stopped = level


@external
def set_calc(calc: address):
    self.calc = calc


@external
def set_incentives(tip: uint256, chip: uint256):
    self.tip = tip
    self.chip = chip


@external
def set_holes(all_: uint256, own: uint256):
    self.Hole = all_
    self.milk.hole = own


@external
def crowd(tab: uint256):
    """
    @notice Have auctions of other kinds of collateral want so much.
    """
    self.Dirt += tab


@external
@view
def dog() -> address:
    return self


@external
@view
def ilks(ilk_: bytes32) -> Milk:
    if ilk_ != ilk:
        return empty(Milk)
    return self.milk


@external
def bark(ilk_: bytes32, urn: address, kpr: address) -> uint256:
    assert ilk_ == ilk and self.live == 1, "Dog/not-live"
    ink: uint256 = 0
    art: uint256 = 0
    ink, art = staticcall IVat(vat).urns(ilk, urn)
    all_: uint256 = 0
    rate: uint256 = 0
    spot: uint256 = 0
    line: uint256 = 0
    dust: uint256 = 0
    all_, rate, spot, line, dust = staticcall IVat(vat).ilks(ilk)
    milk: Milk = self.milk
    assert spot > 0 and ink * spot < art * rate, "Dog/not-unsafe"
    assert self.Hole > self.Dirt and milk.hole > milk.dirt, "Dog/liquidation-limit-hit"
    room: uint256 = min(self.Hole - self.Dirt, milk.hole - milk.dirt)
    dart: uint256 = min(art, room * WAD // rate // milk.chop)
    if art > dart:
        if (art - dart) * rate < dust:
            dart = art
        else:
            assert dart * rate >= dust, "Dog/dusty-auction-from-partial-liquidation"
    dink: uint256 = ink * dart // art
    assert dink > 0, "Dog/null-auction"
    extcall IVat(vat).grab(ilk, urn, self, vow, -convert(dink, int256), -convert(dart, int256))
    due: uint256 = dart * rate
    tab: uint256 = due * milk.chop // WAD
    self.Dirt += tab
    self.milk.dirt += tab
    id: uint256 = self._kick(tab, dink, urn, kpr)
    log Bark(ilk=ilk, urn=urn, ink=dink, art=dart, due=due, clip=self, id=id)
    return id


@internal
def _kick(tab: uint256, lot: uint256, usr: address, kpr: address) -> uint256:
    assert self.stopped < 1, "Clipper/stopped-incorrect"
    id: uint256 = self.kicks + 1
    self.kicks = id
    top: uint256 = self.feed * self.buf // RAY
    assert top > 0, "Clipper/zero-top-price"
    self.sales[id] = Sale(
        pos=len(self.active), tab=tab, lot=lot, usr=usr, tic=block.timestamp, top=top
    )
    self.active.append(id)
    coin: uint256 = 0
    if self.tip > 0 or self.chip > 0:
        coin = self.tip + tab * self.chip // WAD
        extcall IVat(vat).suck(vow, kpr, coin)
    log Kick(id=id, top=top, tab=tab, lot=lot, usr=usr, kpr=kpr, coin=coin)
    return id


@external
@nonreentrant
def redo(id: uint256, kpr: address):
    assert self.stopped < 2, "Clipper/stopped-incorrect"
    sale: Sale = self.sales[id]
    assert sale.usr != empty(address), "Clipper/not-running-auction"
    done: bool = False
    price: uint256 = 0
    done, price = self._status(sale.tic, sale.top)
    assert done, "Clipper/cannot-reset"
    top: uint256 = self.feed * self.buf // RAY
    assert top > 0, "Clipper/zero-top-price"
    self.sales[id].tic = block.timestamp
    self.sales[id].top = top
    coin: uint256 = 0
    if self.tip > 0 or self.chip > 0:
        if sale.tab >= self.chost and sale.lot * self.feed >= self.chost:
            coin = self.tip + sale.tab * self.chip // WAD
            extcall IVat(vat).suck(vow, kpr, coin)
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
        if sale.tab - owe < self.chost:
            assert sale.tab > self.chost, "Clipper/no-partial-purchase"
            owe = sale.tab - self.chost
            part = owe // price
    tab: uint256 = sale.tab - owe
    lot: uint256 = sale.lot - part
    extcall IVat(vat).flux(ilk, self, who, part)
    if len(data) > 0 and who != vat and who != self:
        extcall ICallee(who).clipperCall(msg.sender, owe, part, data)
    extcall IVat(vat).move(msg.sender, vow, owe)
    if lot == 0:
        self._digs(tab + owe)
        self._remove(id)
    else:
        self._digs(owe)
        if tab == 0:
            extcall IVat(vat).flux(ilk, self, sale.usr, lot)
            self._remove(id)
        else:
            self.sales[id].tab = tab
            self.sales[id].lot = lot
    log Take(id=id, max=most, price=price, owe=owe, tab=tab, lot=lot, usr=sale.usr)


@external
@nonreentrant
def yank(id: uint256):
    sale: Sale = self.sales[id]
    assert sale.usr != empty(address), "Clipper/not-running-auction"
    self._digs(sale.tab)
    extcall IVat(vat).flux(ilk, self, msg.sender, sale.lot)
    self._remove(id)
    log Yank(id=id)


@internal
def _digs(rad: uint256):
    self.Dirt -= rad
    self.milk.dirt -= rad


@internal
def _remove(id: uint256):
    last: uint256 = self.active.pop()
    if last != id:
        place: uint256 = self.sales[id].pos
        self.active[place] = last
        self.sales[last].pos = place
    self.sales[id] = empty(Sale)


@external
@view
def count() -> uint256:
    return len(self.active)


@external
@view
def getStatus(id: uint256) -> (bool, uint256, uint256, uint256):
    """
    @return Whether it has to be started anew, price, lot, tab.
    """
    sale: Sale = self.sales[id]
    if sale.usr == empty(address):
        return False, 0, 0, 0
    done: bool = False
    price: uint256 = 0
    done, price = self._status(sale.tic, sale.top)
    return done, price, sale.lot, sale.tab


@internal
@view
def _status(tic: uint256, top: uint256) -> (bool, uint256):
    duration: uint256 = block.timestamp - tic
    price: uint256 = staticcall ICalculator(self.calc).price(top, duration)
    return duration > self.tail or price * RAY // top < self.cusp, price
