# pragma version 0.4.3
# pragma evm-version cancun
# @title Opens many borrowers in one transaction, each a distinct address with real positions
# @notice Holds the collateral; a borrower's address follows from this contract and its salt alone
# @license MIT

interface Pool:
    def supply(asset: address, amount: uint256, owner: address, referral: uint16): nonpayable

interface Token:
    def approve(spender: address, amount: uint256): nonpayable

struct Leg:
    asset: address
    amount: uint256

struct Opening:
    salt: bytes32
    category: uint8
    collateral: DynArray[Leg, 8]
    debts: DynArray[Leg, 8]

interface Borrower:
    def borrow(pool: address, category: uint8, debts: DynArray[Leg, 8]): nonpayable

template: public(immutable(address))
owner: public(immutable(address))


@deploy
def __init__(template_: address):
    template = template_
    owner = msg.sender


@external
def approve(asset: address, spender: address):
    assert msg.sender == owner, "not owner"
    extcall Token(asset).approve(spender, max_value(uint256))


@external
def open(pool: address, openings: DynArray[Opening, 64]):
    assert msg.sender == owner, "not owner"
    for opening: Opening in openings:
        borrower: address = create_minimal_proxy_to(template, salt=opening.salt)
        for leg: Leg in opening.collateral:
            extcall Pool(pool).supply(leg.asset, leg.amount, borrower, 0)
        extcall Borrower(borrower).borrow(pool, opening.category, opening.debts)
