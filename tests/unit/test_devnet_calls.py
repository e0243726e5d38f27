"""Signatures, addresses and crowds of the local chain, without a chain."""

import random

import pytest

from keeper.devnet.borrowers import OPEN, CrowdSpec, opening_calldata, plan_crowd
from keeper.devnet.calls import argument_types, calldata, contract_address, salted_address
from keeper.devnet.model import Market, Token
from keeper.devnet.solidity import Artifact


@pytest.mark.parametrize(
    ("signature", "types"),
    [
        ("totalSupply()", []),
        ("transfer(address,uint256)", ["address", "uint256"]),
        (
            "open(address,(bytes32,(address,uint256)[])[])",
            ["address", "(bytes32,(address,uint256)[])[]"],
        ),
        ("mint((address,uint24))", ["(address,uint24)"]),
    ],
)
def test_top_level_types(signature, types) -> None:
    assert argument_types(signature) == types


def test_calldata_of_a_transfer() -> None:
    data = calldata("transfer(address,uint256)", [b"\x11" * 20, 5])
    assert data.hex() == "a9059cbb" + "00" * 12 + "11" * 20 + "00" * 31 + "05"


@pytest.mark.parametrize(
    ("nonce", "address"),
    [
        # the sender and addresses of go-ethereum's crypto tests
        (0, "333c3310824b7c685133f2bedb2ca4b8b4df633d"),
        (1, "8bda78331c916a08481428e4b07c96d3e916d165"),
        (2, "c9ddedf451bc62ce88bf9292afb13df35b670699"),
    ],
)
def test_create_address(nonce, address) -> None:
    sender = bytes.fromhex("970e8128ab834e8eac17ab8e3812f010678cf791")
    assert contract_address(sender, nonce).hex() == address


def test_create2_address_of_the_standard() -> None:
    sender = bytes.fromhex("deadbeef00000000000000000000000000000000")
    found = salted_address(sender, bytes(32), b"\x00")
    assert found.hex() == "b928f69bb1d91cd65274e3c79d8986362984fda3"


def test_libraries_go_into_their_places() -> None:
    artifact = Artifact("60" + "__" * 20 + "61" + "__" * 20, (("Lib", (1, 22)),))
    assert artifact.linked({"Lib": b"\x77" * 20}).hex() == "60" + "77" * 20 + "61" + "77" * 20


def market() -> Market:
    blank = bytes(20)
    tokens = {
        name: Token(
            name, bytes([n]) * 20, decimals, blank, blank, "proxy", blank, blank, 8000, 8300
        )
        for n, (name, decimals) in enumerate({"WETH": 18, "USDC": 6}.items(), start=1)
    }
    return Market(
        name="Main",
        owner=blank,
        provider=blank,
        pool=blank,
        configurator=blank,
        oracle=blank,
        acl_manager=blank,
        data_provider=blank,
        rate_strategy=blank,
        treasury=blank,
        crowd=blank,
        tokens=tokens,
    )


def spec(seed: int) -> CrowdSpec:
    return CrowdSpec(("WETH",), ("USDC",), (1.05, 1.20), (5_000, 50_000), seed)


def test_the_same_seed_plans_the_same_crowd() -> None:
    prices = {"WETH": 2_500 * 10**8, "USDC": 10**8}
    once, again = (plan_crowd(market(), prices, 20, spec(7)) for _ in range(2))
    other = plan_crowd(market(), prices, 20, spec(8))
    assert once == again
    assert {opening[0] for opening in once}.isdisjoint(opening[0] for opening in other)


def test_planned_health_lies_in_the_range_asked_for() -> None:
    prices = {"WETH": 2_500 * 10**8, "USDC": 10**8}
    for _, _, [(_, weth)], [(_, usdc)] in plan_crowd(market(), prices, 200, spec(7)):
        collateral, debt = weth * 2_500 / 1e18, usdc / 1e6
        assert 4_999 < collateral <= 50_000
        assert 1.0499 < collateral * 0.83 / debt < 1.2001


def test_openings_packed_by_hand_equal_eth_abi() -> None:
    rng = random.Random(11)

    def legs() -> list[tuple[bytes, int]]:
        return [(rng.randbytes(20), rng.getrandbits(200)) for _ in range(rng.randrange(5))]

    for size in range(6):
        batch = [(rng.randbytes(32), rng.randrange(3), legs(), legs()) for _ in range(size)]
        assert opening_calldata(b"\x22" * 20, batch) == calldata(OPEN, [b"\x22" * 20, batch])
