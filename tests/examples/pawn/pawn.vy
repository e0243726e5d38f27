# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A pawn shop: one kind of pledge, one kind of loan, no interest
@license MIT
@notice Both tokens have 18 decimals, and what is lent is worth a dollar. An example, not for use.
"""
from ethereum.ercs import IERC20

BPS: constant(uint256) = 10_000
THRESHOLD: constant(uint256) = 8_000
BONUS: constant(uint256) = 10_500
FEED_UNIT: constant(uint256) = 10**8

interface IFeed:
    def latestAnswer() -> int256: view

event Changed:
    customer: indexed(address)
    held: uint256
    owed: uint256

struct Loan:
    held: uint256
    owed: uint256

pledge: public(immutable(address))
lent: public(immutable(address))
feed: public(immutable(address))
loans: public(HashMap[address, Loan])


@deploy
def __init__(pledge_: address, lent_: address, feed_: address):
    pledge = pledge_
    lent = lent_
    feed = feed_


@external
def open(customer: address, held: uint256, owed: uint256):
    loan: Loan = self.loans[customer]
    assert extcall IERC20(pledge).transferFrom(msg.sender, self, held)
    assert extcall IERC20(lent).transfer(customer, owed)
    self._keep(customer, loan.held + held, loan.owed + owed)


@external
def liquidate(customer: address, repay: uint256):
    loan: Loan = self.loans[customer]
    price: uint256 = convert(staticcall IFeed(feed).latestAnswer(), uint256)
    assert loan.held * price // FEED_UNIT * THRESHOLD // BPS < loan.owed, "healthy"
    assert repay <= loan.owed, "more than is owed"
    seized: uint256 = repay * FEED_UNIT // price * BONUS // BPS
    assert seized <= loan.held, "more than is held"
    self._keep(customer, loan.held - seized, loan.owed - repay)
    assert extcall IERC20(lent).transferFrom(msg.sender, self, repay)
    assert extcall IERC20(pledge).transfer(msg.sender, seized)


@internal
def _keep(customer: address, held: uint256, owed: uint256):
    self.loans[customer] = Loan(held=held, owed=owed)
    log Changed(customer=customer, held=held, owed=owed)
