"""What every venue owes the planner: actions the contract knows, and snapshots that are checked."""

from typing import Any

import pytest
from eth_abi.abi import decode

from keeper.errors import InvariantError
from keeper.planning.batch import GAINED, Action, Call, Redeem, Swap, Unwrap, Wrap
from keeper.planning.batching import _action
from keeper.planning.gas import GROUP, SWAP, extra_gas, group_gas
from keeper.planning.size import sale_size
from keeper.types import (
    Execution,
    FlashKind,
    FlashSource,
    Hop,
    Log,
    NativeUnwrap,
    NativeWrap,
    PoolCall,
    PoolSwap,
    VaultRedeem,
)
from keeper.units import Address, Hash
from keeper.venues.balancer_v2 import BalancerV2
from keeper.venues.balancer_v2.pool import Lending, Pool, State
from keeper.venues.balancer_v2.powers import Powers
from keeper.venues.balancer_v2.venue import FEE_CHANGED, FLASH_FEE_CHANGED, PAUSED
from keeper.venues.uniswap_v2 import UniswapV2
from keeper.venues.uniswap_v2.pair import Pair

ONE, TWO, PLACE, ROUTER, BUYER = (Address(bytes([n]) * 20) for n in range(1, 6))
COLLECTOR = Address(b"\x06" * 20)
NUMBER = b"\x0c" * 32
HOP = Hop("venue", PLACE, ONE, TWO)


class Says:
    """A venue that executes everything in one way."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def execution(self, hop: Hop) -> Execution:
        return self._execution


def uniswap() -> UniswapV2:
    made = UniswapV2("v2", PLACE, ROUTER, [ONE, TWO], BUYER)
    made.adopt([Pair(Address(b"\x09" * 20), ONE, TWO, (2**112 - 1, 1))])
    return made


def balancer(powers: Powers | None = Powers.SHORTCUTS) -> BalancerV2:
    made = BalancerV2("b", ROUTER, [PLACE], [ONE, TWO], BUYER)
    state = State((2**112 - 1, 10**20), (0, 7), 10**15, paused=False)
    half = 5 * 10**17
    pool = Pool(PLACE, NUMBER, (ONE, TWO), (half, half), (1, 1), state, powers)
    made._adopt(False, Lending(COLLECTOR, 0), [pool])
    return made


def told(source: Address, topic: bytes, value: int) -> Log:
    return Log(source, (topic,), value.to_bytes(32), 1, Hash(bytes(32)), 0)


@pytest.mark.parametrize(
    ("execution", "expected"),
    [
        (PoolSwap(ROUTER, 500), Swap(ROUTER, 500, ONE, TWO)),
        (
            PoolCall(ROUTER, b"head", b"tail"),
            Call(ROUTER, b"head" + bytes(32) + b"tail", ONE, TWO, patch_at=4),
        ),
        (PoolCall(ROUTER, b"head", b"tail", whole=True), Call(ROUTER, b"headtail", ONE, TWO)),
        (VaultRedeem(), Redeem(ONE, TWO)),
        (NativeWrap(), Wrap(TWO)),
        (NativeUnwrap(), Unwrap(ONE)),
    ],
)
def test_every_way_to_execute_a_hop_is_an_action(execution: Execution, expected: Action) -> None:
    venue: Any = Says(execution)
    assert _action(HOP, venue, GAINED) == expected


def test_a_router_is_called_as_its_abi_says() -> None:
    venue = uniswap()
    (hop,) = venue.hops(TWO)
    call = _action(hop, venue, GAINED)
    assert isinstance(call, Call)
    assert call.data[:4].hex() == "38ed1739"
    types = ["uint256", "uint256", "address[]", "address", "uint256"]
    assert decode(types, call.data[4:], strict=True) == (
        0,
        0,
        ("0x" + TWO.hex(), "0x" + ONE.hex()),
        "0x" + BUYER.hex(),
        2**256 - 1,
    )
    assert (call.target, call.patch_at) == (ROUTER, 4)
    assert hop.extra_bytes == len(call.data) - 32


def test_the_vault_is_called_as_its_abi_says() -> None:
    venue = balancer()
    (hop,) = venue.hops(ONE)
    call = _action(hop, venue, GAINED)
    assert isinstance(call, Call)
    assert call.patch_at is not None
    filled = call.data[: call.patch_at] + (77).to_bytes(32) + call.data[call.patch_at + 32 :]
    types = [
        "(bytes32,uint8,address,address,uint256,bytes)",
        "(address,bool,address,bool)",
        "uint256",
        "uint256",
    ]
    buyer = "0x" + BUYER.hex()
    assert decode(types, filled[4:], strict=True) == (
        (NUMBER, 0, "0x" + ONE.hex(), "0x" + TWO.hex(), 77, b""),
        (buyer, False, buyer, False),
        0,
        2**256 - 1,
    )
    assert hop.extra_bytes == len(call.data) - 32


def test_a_call_counts_for_more_gas_and_bytes_than_a_swap() -> None:
    (called,) = uniswap().hops(ONE)
    route = (HOP, called)
    assert extra_gas(route) == called.extra_gas > 0
    assert group_gas(2, extra_gas(route)) == GROUP + 2 * SWAP + called.extra_gas
    assert sale_size(route) == 2 * sale_size((HOP,)) + called.extra_bytes


def test_a_snapshot_of_another_exchange_is_refused() -> None:
    for one, other in (
        (uniswap(), UniswapV2("v2", ROUTER, ROUTER, [], BUYER)),
        (balancer(), BalancerV2("b", PLACE, [PLACE], [], BUYER)),
        (balancer(), BalancerV2("b", ROUTER, [ONE], [], BUYER)),
    ):
        pages = list(one.snapshot()())
        with pytest.raises(InvariantError):
            other.restore(pages)
        with pytest.raises(InvariantError):
            one.restore([pages[0], pages[1][:-1]])
        one.restore(pages)


@pytest.mark.parametrize("powers", [None, *Powers])
def test_extreme_state_comes_back_equal(powers: Powers | None) -> None:
    first, second = balancer(powers), balancer()
    first.fold(told(COLLECTOR, FLASH_FEE_CHANGED, 10**16 - 1))
    second.restore(first.snapshot()())
    assert (second.pools, second.lending) == (first.pools, first.lending)
    assert second.watch() == first.watch()
    assert second.flash_sources(ONE) == first.flash_sources(ONE) != ()
    pair, again = uniswap(), UniswapV2("v2", PLACE, ROUTER, [], BUYER)
    again.restore(pair.snapshot()())
    assert (again.pairs, again.tokens, again.watch()) == (pair.pairs, pair.tokens, pair.watch())


def test_a_pool_whose_formula_is_not_known_takes_nothing() -> None:
    (hop,) = balancer().hops(TWO)
    assert balancer().begin().quote(hop, 10**10) > 0
    assert balancer(None).begin().quote(hop, 10**10) == 0


def test_cash_bounds_what_comes_out() -> None:
    venue = balancer()
    pool = venue.pools[PLACE]
    pool.state = pool.state._replace(cash=(10**20, 10**3), managed=(0, 10**20))
    (hop,) = venue.hops(ONE)
    assert venue.begin().quote(hop, 900) > 0
    assert venue.begin().quote(hop, 10**6) == 0


def test_a_vault_lends_what_its_pools_hold_and_shuts_them() -> None:
    venue = balancer()
    other, third = Address(b"\x07" * 20), Address(b"\x08" * 20)
    state = State((5, 6), (10**30, 0), 10**15, paused=True)
    more = Pool(other, bytes(32), (TWO, third), (1, 1), (1, 1), state, None)
    venue._adopt(False, venue.lending, [*venue.pools.values(), more])
    (loan,) = venue.flash_sources(TWO)
    assert loan == FlashSource(FlashKind.BALANCER, ROUTER, TWO, 10**20 + 5, 0)
    assert loan.shuts == {ROUTER, PLACE, other}
    assert venue.flash_sources(third)[0].available == 6
    assert venue.flash_sources(BUYER) == ()
    assert venue.watch().addresses == {ROUTER, PLACE, other, COLLECTOR}
    undo = venue.fold(told(ROUTER, PAUSED, 1))
    assert venue.flash_sources(TWO) == ()
    assert undo is not None
    undo()
    assert venue.flash_sources(TWO) == (loan,)


def test_the_fee_of_a_vaults_loans_is_followed_and_taken_back() -> None:
    venue = balancer()
    before = venue.lending
    assert venue.fold(told(COLLECTOR, FEE_CHANGED, 10**17)) is None, "that is of swaps"
    assert venue.fold(told(PLACE, FLASH_FEE_CHANGED, 10**17)) is None, "and that is of a pool"
    undo = venue.fold(told(COLLECTOR, FLASH_FEE_CHANGED, 10**15 + 1))
    (loan,) = venue.flash_sources(ONE)
    assert (loan.fee_ppm, loan.premium_up(10**18)) == (1_001, 10**15 + 1)
    assert loan.premium_up(1) == 1
    assert undo is not None
    undo()
    assert venue.lending == before
    venue.fold(told(COLLECTOR, FLASH_FEE_CHANGED, 2 * 10**15))
    (loan,) = venue.flash_sources(ONE)
    assert (loan.fee_ppm, loan.fee_wad, loan.premium_up(10**6)) == (2_000, 0, 2_000)


def test_a_vault_of_which_nothing_was_read_lends_nothing() -> None:
    venue = BalancerV2("b", ROUTER, [PLACE], [ONE, TWO], BUYER)
    assert venue.flash_sources(ONE) == ()
    pages = list(balancer().snapshot()())
    with pytest.raises(InvariantError, match="another format"):
        venue.restore([(2).to_bytes(4, "big") + pages[0][4:], b"[false, []]"])
