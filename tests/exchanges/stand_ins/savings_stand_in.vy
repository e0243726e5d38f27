# pragma version 0.4.3
# pragma evm-version cancun
"""
@title SavingsStandIn
@notice Written for tests: an ERC-4626 vault whose shares grow by a rate each second, as the published
    savings tokens do. It is none of them, and proves nothing about them.
"""
from ethereum.ercs import IERC20

event Deposit:
    sender: indexed(address)
    owner: indexed(address)
    assets: uint256
    shares: uint256

event Withdraw:
    sender: indexed(address)
    receiver: indexed(address)
    owner: indexed(address)
    assets: uint256
    shares: uint256

RAY: constant(uint256) = 10**27

asset: public(address)
chi: public(uint256)
rho: public(uint256)
ssr: public(uint256)
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
decimals: public(constant(uint8)) = 18

@deploy
def __init__(asset: address, rate: uint256):
    self.asset = asset
    self.chi = RAY
    self.rho = block.timestamp
    self.ssr = rate

@internal
@view
def grown() -> uint256:
    left: uint256 = block.timestamp - self.rho
    base: uint256 = self.ssr
    power: uint256 = RAY
    for _: uint256 in range(64):
        if left == 0:
            break
        if left % 2 == 1:
            power = (power * base + RAY // 2) // RAY
        base = (base * base + RAY // 2) // RAY
        left = left // 2
    return power * self.chi // RAY

@external
@view
def previewRedeem(shares: uint256) -> uint256:
    return shares * self.grown() // RAY

@external
@view
def totalAssets() -> uint256:
    return self.totalSupply * self.grown() // RAY

@external
def deposit(assets: uint256, receiver: address) -> uint256:
    self.chi = self.grown()
    self.rho = block.timestamp
    shares: uint256 = assets * RAY // self.chi
    assert extcall IERC20(self.asset).transferFrom(msg.sender, self, assets)
    self.totalSupply += shares
    self.balanceOf[receiver] += shares
    log Deposit(sender=msg.sender, owner=receiver, assets=assets, shares=shares)
    return shares

@external
def redeem(shares: uint256, receiver: address, owner: address) -> uint256:
    assert msg.sender == owner
    self.chi = self.grown()
    self.rho = block.timestamp
    assets: uint256 = shares * self.chi // RAY
    self.totalSupply -= shares
    self.balanceOf[owner] -= shares
    assert extcall IERC20(self.asset).transfer(receiver, assets)
    log Withdraw(sender=msg.sender, receiver=receiver, owner=owner, assets=assets, shares=shares)
    return assets
