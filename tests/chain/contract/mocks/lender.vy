# pragma version 0.4.3
# pragma evm-version cancun
"""
@notice A lending market with calls of unlike shapes: words around borrower and amount, error codes
    instead of reverts, repayment in native coin, rewards without a repay.
"""
from ethereum.ercs import IERC20

KEY: constant(bytes32) = 0x6b65790000000000000000000000000000000000000000000000000000000000

debt: immutable(address)
collateral: immutable(address)
debts: HashMap[address, uint256]
poisoned: HashMap[address, bool]


@deploy
def __init__(debt_: address, collateral_: address):
    debt = debt_
    collateral = collateral_


@external
@payable
def __default__():
    pass


@external
def owe(borrower: address, amount: uint256):
    self.debts[borrower] = amount


@external
def poison(borrower: address):
    self.poisoned[borrower] = True


@external
@view
def position(key: bytes32, borrower: address) -> (uint256, uint256, uint256):
    assert key == KEY
    return 7, self.debts[borrower], 9


@external
def seize(key: bytes32, borrower: address, nothing: uint256, amount: uint256, last: uint256):
    """
    @notice Words before, between and behind; twice the repay is paid in collateral.
    """
    assert key == KEY and nothing == 0 and last == 5
    self._take(borrower, amount)
    assert extcall IERC20(debt).transferFrom(msg.sender, self, amount, default_return_value=True)
    assert extcall IERC20(collateral).transfer(msg.sender, 2 * amount, default_return_value=True)


@external
def seize_or_tell(borrower: address, amount: uint256) -> uint256:
    """
    @notice Return an error code where another protocol reverts.
    """
    if self.debts[borrower] < amount:
        return 3
    self._take(borrower, amount)
    assert extcall IERC20(debt).transferFrom(msg.sender, self, amount, default_return_value=True)
    assert extcall IERC20(collateral).transfer(msg.sender, 2 * amount, default_return_value=True)
    return 0


@external
@payable
def seize_for_native(borrower: address):
    self._take(borrower, msg.value)
    assert extcall IERC20(collateral).transfer(msg.sender, 2 * msg.value, default_return_value=True)


@external
def close(borrower: address):
    """
    @notice Cost nothing and pay a reward in native coin.
    """
    assert self.debts[borrower] != 0
    self._close(borrower)


@external
def close_all(borrowers: DynArray[address, 100]):
    """
    @notice Close whoever owes, each for a reward, at the gas of some writes; a poisoned one fails them all.
    """
    for borrower: address in borrowers:
        if self.poisoned[borrower]:
            raw_revert(method_id("Poisoned()"))
        if self.debts[borrower] != 0:
            self._close(borrower)


@internal
def _close(borrower: address):
    self.debts[borrower] = 0
    send(msg.sender, 10**16)


@internal
def _take(borrower: address, amount: uint256):
    assert amount != 0 and self.debts[borrower] >= amount
    self.debts[borrower] -= amount
