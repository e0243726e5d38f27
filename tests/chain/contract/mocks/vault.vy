# pragma version 0.4.3
# pragma evm-version cancun
"""
@notice A one-to-one ERC-4626 vault, with an extra way to burn one's own shares as wrapped tokens have.
"""
from ethereum.ercs import IERC20

asset: public(address)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])


@deploy
def __init__(asset: address):
    self.asset = asset


@external
def deposit(assets: uint256, receiver: address) -> uint256:
    assert extcall IERC20(self.asset).transferFrom(msg.sender, self, assets, default_return_value=True)
    self.balanceOf[receiver] += assets
    return assets


@external
def redeem(shares: uint256, receiver: address, owner: address) -> uint256:
    if msg.sender != owner:
        self.allowance[owner][msg.sender] -= shares
    self.balanceOf[owner] -= shares
    assert extcall IERC20(self.asset).transfer(receiver, shares, default_return_value=True)
    return shares


@external
def unwrap(shares: uint256, receiver: address):
    self.balanceOf[msg.sender] -= shares
    assert extcall IERC20(self.asset).transfer(receiver, shares, default_return_value=True)


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    return True


@external
def transfer(to: address, amount: uint256) -> bool:
    self.balanceOf[msg.sender] -= amount
    self.balanceOf[to] += amount
    return True
