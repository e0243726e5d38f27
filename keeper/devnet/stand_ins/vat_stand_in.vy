# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Stand-in for Maker's Vat
@license MIT
@notice Written for tests by the formulas of makerdao/dss (vat.sol): it proves nothing of Maker.
@dev
    Names and units are dss's: wad amounts, ray rates and prices, rad money. What changes an urn or a kind
    of collateral is told as dss does, by an anonymous note of the call: selector, three words, calldata.
    What differs: nobody is refused for what only wards may do, and there is no debt ceiling.
"""
RAY: constant(uint256) = 10**27
PADDING: constant(Bytes[124]) = (
    x"00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
)

struct Ilk:
    Art: uint256
    rate: uint256
    spot: uint256
    line: uint256
    dust: uint256

struct Urn:
    ink: uint256
    art: uint256

ilks: public(HashMap[bytes32, Ilk])
urns: public(HashMap[bytes32, HashMap[address, Urn]])
gem: public(HashMap[bytes32, HashMap[address, uint256]])
dai: public(HashMap[address, uint256])
can: public(HashMap[address, HashMap[address, uint256]])


@deploy
def __init__(ilk: bytes32, dust: uint256):
    self.ilks[ilk].rate = RAY
    self.ilks[ilk].dust = dust


@external
def hope(usr: address):
    self.can[msg.sender][usr] = 1


@external
def nope(usr: address):
    self.can[msg.sender][usr] = 0


@internal
@view
def _wish(bit: address, usr: address) -> bool:
    return bit == usr or self.can[bit][usr] == 1


@internal
@pure
def _add(x: uint256, y: int256) -> uint256:
    if y < 0:
        return x - convert(-y, uint256)
    return x + convert(y, uint256)


@internal
def _note(name: bytes4, one: bytes32, two: bytes32, three: bytes32, told: Bytes[224]):
    raw_log(
        [convert(name, bytes32), one, two, three],
        concat(convert(32, bytes32), convert(224, bytes32), told),
    )


@external
def file(ilk: bytes32, what: bytes32, data: uint256):
    if what == convert(b"spot", bytes32):
        self.ilks[ilk].spot = data
    elif what == convert(b"dust", bytes32):
        self.ilks[ilk].dust = data
    else:
        assert what == convert(b"line", bytes32), "Vat/file-unrecognized-param"
        self.ilks[ilk].line = data
    self._note(
        method_id("file(bytes32,bytes32,uint256)", output_type=bytes4),
        ilk,
        what,
        convert(data, bytes32),
        concat(slice(msg.data, 0, 100), PADDING),
    )


@external
def slip(ilk: bytes32, usr: address, wad: int256):
    self.gem[ilk][usr] = self._add(self.gem[ilk][usr], wad)


@external
def flux(ilk: bytes32, src: address, dst: address, wad: uint256):
    assert self._wish(src, msg.sender), "Vat/not-allowed"
    self.gem[ilk][src] -= wad
    self.gem[ilk][dst] += wad


@external
def move(src: address, dst: address, rad: uint256):
    assert self._wish(src, msg.sender), "Vat/not-allowed"
    self.dai[src] -= rad
    self.dai[dst] += rad


@external
def suck(u: address, v: address, rad: uint256):
    self.dai[v] += rad


@external
def frob(i: bytes32, u: address, v: address, w: address, dink: int256, dart: int256):
    urn: Urn = self.urns[i][u]
    ilk: Ilk = self.ilks[i]
    assert ilk.rate != 0, "Vat/ilk-not-init"
    urn.ink = self._add(urn.ink, dink)
    urn.art = self._add(urn.art, dart)
    ilk.Art = self._add(ilk.Art, dart)
    tab: uint256 = ilk.rate * urn.art
    safer: bool = dart <= 0 and dink >= 0
    assert safer or tab <= urn.ink * ilk.spot, "Vat/not-safe"
    assert safer or self._wish(u, msg.sender), "Vat/not-allowed-u"
    assert dink <= 0 or self._wish(v, msg.sender), "Vat/not-allowed-v"
    assert dart >= 0 or self._wish(w, msg.sender), "Vat/not-allowed-w"
    assert urn.art == 0 or tab >= ilk.dust, "Vat/dust"
    self.gem[i][v] = self._add(self.gem[i][v], -dink)
    self.dai[w] = self._add(self.dai[w], convert(ilk.rate, int256) * dart)
    self.urns[i][u] = urn
    self.ilks[i] = ilk
    self._note(
        method_id("frob(bytes32,address,address,address,int256,int256)", output_type=bytes4),
        i,
        convert(u, bytes32),
        convert(v, bytes32),
        concat(slice(msg.data, 0, 196), slice(PADDING, 0, 28)),
    )


@external
def fork(ilk: bytes32, src: address, dst: address, dink: int256, dart: int256):
    u: Urn = self.urns[ilk][src]
    v: Urn = self.urns[ilk][dst]
    i: Ilk = self.ilks[ilk]
    u.ink = self._add(u.ink, -dink)
    u.art = self._add(u.art, -dart)
    v.ink = self._add(v.ink, dink)
    v.art = self._add(v.art, dart)
    assert self._wish(src, msg.sender) and self._wish(dst, msg.sender), "Vat/not-allowed"
    assert u.art * i.rate <= u.ink * i.spot, "Vat/not-safe-src"
    assert v.art * i.rate <= v.ink * i.spot, "Vat/not-safe-dst"
    assert u.art == 0 or u.art * i.rate >= i.dust, "Vat/dust-src"
    assert v.art == 0 or v.art * i.rate >= i.dust, "Vat/dust-dst"
    self.urns[ilk][src] = u
    self.urns[ilk][dst] = v
    self._note(
        method_id("fork(bytes32,address,address,int256,int256)", output_type=bytes4),
        ilk,
        convert(src, bytes32),
        convert(dst, bytes32),
        concat(slice(msg.data, 0, 164), slice(PADDING, 0, 60)),
    )


@external
def grab(i: bytes32, u: address, v: address, w: address, dink: int256, dart: int256):
    urn: Urn = self.urns[i][u]
    self.urns[i][u] = Urn(ink=self._add(urn.ink, dink), art=self._add(urn.art, dart))
    self.ilks[i].Art = self._add(self.ilks[i].Art, dart)
    self.gem[i][v] = self._add(self.gem[i][v], -dink)
    self._note(
        method_id("grab(bytes32,address,address,address,int256,int256)", output_type=bytes4),
        i,
        convert(u, bytes32),
        convert(v, bytes32),
        concat(slice(msg.data, 0, 196), slice(PADDING, 0, 28)),
    )


@external
def fold(i: bytes32, u: address, rate: int256):
    ilk: Ilk = self.ilks[i]
    self.ilks[i].rate = self._add(ilk.rate, rate)
    self.dai[u] = self._add(self.dai[u], convert(ilk.Art, int256) * rate)
    self._note(
        method_id("fold(bytes32,address,int256)", output_type=bytes4),
        i,
        convert(u, bytes32),
        convert(rate, bytes32),
        concat(slice(msg.data, 0, 100), PADDING),
    )
