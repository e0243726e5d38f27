# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Stand-in for Maker's exchange callees
@license MIT
@notice Written for tests: sells what an auction hands over in one Uniswap V3 pool, pays the auction, and
    sends the rest to whom the data names.
"""
from ethereum.ercs import IERC20

RAY: constant(uint256) = 10**27

struct ExactInput:
    tokenIn: address
    tokenOut: address
    fee: uint24
    recipient: address
    deadline: uint256
    amountIn: uint256
    amountOutMinimum: uint256
    sqrtPriceLimitX96: uint160

interface IRouter:
    def exactInputSingle(params: ExactInput) -> uint256: payable

interface IMaker:
    def exit_gem(usr: address, wad: uint256): nonpayable
    def join_dai(usr: address, wad: uint256): nonpayable

router: immutable(address)
maker: immutable(address)
collateral: immutable(address)
dollar: immutable(address)
fee: immutable(uint24)


@deploy
def __init__(router_: address, maker_: address, collateral_: address, dollar_: address, fee_: uint24):
    router = router_
    maker = maker_
    collateral = collateral_
    dollar = dollar_
    fee = fee_


@external
def clipperCall(sender: address, owe: uint256, part: uint256, data: Bytes[512]):
    to: address = abi_decode(data, address)
    extcall IMaker(maker).exit_gem(self, part)
    assert extcall IERC20(collateral).approve(router, part)
    extcall IRouter(router).exactInputSingle(
        ExactInput(
            tokenIn=collateral,
            tokenOut=dollar,
            fee=fee,
            recipient=self,
            deadline=block.timestamp,
            amountIn=part,
            amountOutMinimum=0,
            sqrtPriceLimitX96=0,
        )
    )
    due: uint256 = (owe + RAY - 1) // RAY
    assert extcall IERC20(dollar).approve(maker, due)
    extcall IMaker(maker).join_dai(sender, due)
    assert extcall IERC20(dollar).transfer(to, staticcall IERC20(dollar).balanceOf(self))
