# pragma version 0.4.3
# pragma evm-version cancun
# @title A borrower: enters an eMode and borrows what it is told, keeping the proceeds
# @license MIT

interface Pool:
    def setUserEMode(category: uint8): nonpayable
    def borrow(asset: address, amount: uint256, mode: uint256, referral: uint16, owner: address): nonpayable

struct Leg:
    asset: address
    amount: uint256

VARIABLE: constant(uint256) = 2


@external
def borrow(pool: address, category: uint8, debts: DynArray[Leg, 8]):
    if category != 0:
        extcall Pool(pool).setUserEMode(category)
    for leg: Leg in debts:
        extcall Pool(pool).borrow(leg.asset, leg.amount, VARIABLE, 0, self)
