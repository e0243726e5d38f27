# pragma version 0.4.3
# pragma evm-version cancun
# @title Stand-in for Morpho's pre-liquidation contract, by its documented formulas
# @license MIT

struct Params:
    loan: address
    collateral: address
    oracle: address
    irm: address
    lltv: uint256

struct Early:
    lltv: uint256
    close_low: uint256
    close_high: uint256
    incentive_low: uint256
    incentive_high: uint256
    oracle: address

interface IMorpho:
    def accrueInterest(params: Params): nonpayable
    def market(id: bytes32) -> (uint128, uint128, uint128, uint128, uint128, uint128): view
    def position(id: bytes32, user: address) -> (uint256, uint128, uint128): view
    def repay(params: Params, assets: uint256, shares: uint256, user: address, data: Bytes[96]) -> (uint256, uint256): nonpayable
    def withdrawCollateral(params: Params, assets: uint256, user: address, receiver: address): nonpayable

interface IOracle:
    def price() -> uint256: view

interface IToken:
    def approve(spender: address, amount: uint256) -> bool: nonpayable
    def transferFrom(owner: address, to: address, amount: uint256) -> bool: nonpayable

event PreLiquidate:
    id: indexed(bytes32)
    liquidator: indexed(address)
    borrower: indexed(address)
    repaidAssets: uint256
    repaidShares: uint256
    seizedAssets: uint256

WAD: constant(uint256) = 10**18
SCALE: constant(uint256) = 10**36

MORPHO: public(immutable(address))
ID: public(immutable(bytes32))
params: Params
early: Early


@deploy
def __init__(morpho: address, params: Params, early: Early):
    MORPHO = morpho
    ID = keccak256(abi_encode(params))
    self.params = params
    self.early = early
    extcall IToken(params.loan).approve(morpho, max_value(uint256))


@external
@view
def preLiquidationParams() -> Early:
    return self.early


@external
def preLiquidate(borrower: address, seized_asked: uint256, shares_asked: uint256, data: Bytes[32]) -> (uint256, uint256):
    assert (seized_asked == 0) != (shares_asked == 0), "inconsistent input"
    extcall IMorpho(MORPHO).accrueInterest(self.params)
    supply: uint128 = 0
    supply_shares: uint128 = 0
    total: uint128 = 0
    total_shares: uint128 = 0
    updated: uint128 = 0
    fee: uint128 = 0
    supply, supply_shares, total, total_shares, updated, fee = staticcall IMorpho(MORPHO).market(ID)
    lent: uint256 = 0
    owed: uint128 = 0
    held: uint128 = 0
    lent, owed, held = staticcall IMorpho(MORPHO).position(ID, borrower)
    assets: uint256 = convert(total, uint256) + 1
    shares: uint256 = convert(total_shares, uint256) + 10**6
    price: uint256 = staticcall IOracle(self.early.oracle).price()
    quoted: uint256 = convert(held, uint256) * price // SCALE
    borrowed: uint256 = (convert(owed, uint256) * assets + shares - 1) // shares
    assert borrowed <= quoted * self.params.lltv // WAD, "liquidatable position"
    assert borrowed > quoted * self.early.lltv // WAD, "not pre-liquidatable position"
    ltv: uint256 = (borrowed * WAD + quoted - 1) // quoted
    part: uint256 = (ltv - self.early.lltv) * WAD // (self.params.lltv - self.early.lltv)
    incentive: uint256 = part * (self.early.incentive_high - self.early.incentive_low) // WAD + self.early.incentive_low
    repaid_shares: uint256 = shares_asked
    seized: uint256 = seized_asked
    if seized > 0:
        worth: uint256 = (seized * price + SCALE - 1) // SCALE
        worth = (worth * WAD + incentive - 1) // incentive
        repaid_shares = (worth * shares + assets - 1) // assets
    else:
        seized = repaid_shares * assets // shares * incentive // WAD * SCALE // price
    close: uint256 = part * (self.early.close_high - self.early.close_low) // WAD + self.early.close_low
    assert repaid_shares <= convert(owed, uint256) * close // WAD, "too large"
    repaid: uint256 = 0
    same: uint256 = 0
    repaid, same = extcall IMorpho(MORPHO).repay(
        self.params, 0, repaid_shares, borrower, abi_encode(seized, borrower, msg.sender)
    )
    log PreLiquidate(
        id=ID,
        liquidator=msg.sender,
        borrower=borrower,
        repaidAssets=repaid,
        repaidShares=repaid_shares,
        seizedAssets=seized,
    )
    return seized, repaid


@external
def onMorphoRepay(repaid: uint256, data: Bytes[96]):
    assert msg.sender == MORPHO, "not Morpho"
    seized: uint256 = 0
    borrower: address = empty(address)
    liquidator: address = empty(address)
    seized, borrower, liquidator = abi_decode(data, (uint256, address, address))
    extcall IMorpho(MORPHO).withdrawCollateral(self.params, seized, borrower, liquidator)
    assert extcall IToken(self.params.loan).transferFrom(liquidator, self, repaid)
