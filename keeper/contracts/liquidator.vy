# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Liquidator
@license MIT
@notice Executes a batch of liquidations, funded by flash loans or own inventory, and never at a loss.
@dev
    `run` takes one packed batch (layout: keeper/planning/encoding.py). Groups run in a self-call and are
    undone alone; items inside a group are isolated by their own call and share one sale.

    What holds, whatever an operator sends: no balance held before the batch is lower after it (beyond the
    owner's inventory budget), no debt is created, no allowance is left, the tip stays under the owner's cap.
    `convert` alone sells what was held before, by the owner's rate and amount per day for two tokens.
    It rests on four rules. Every token a batch can move is listed, snapshotted at entry and compared at the
    end. Calls are typed, or name a (target, selector) the owner allowed. Approvals live for one action.
    Callbacks are expected one at a time, by caller, kind, payload hash and amount.
"""
from ethereum.ercs import IERC20

MAX_BATCH: constant(uint256) = 13920
MAX_GROUP: constant(uint256) = 8192
MAX_TOKENS: constant(uint256) = 16
MAX_ADDRESSES: constant(uint256) = 64
MAX_FUNDS: constant(uint256) = 4
MAX_MINIMUMS: constant(uint256) = 16
MAX_GROUPS: constant(uint256) = 100
MAX_ITEMS: constant(uint256) = 100
MAX_ACTIONS: constant(uint256) = 16
MAX_RESULTS: constant(uint256) = 101
HEADER_SIZE: constant(uint256) = 48
ADDRESS_SIZE: constant(uint256) = 20
FUND_SIZE: constant(uint256) = 23
MINIMUM_SIZE: constant(uint256) = 17
GROUP_HEADER_SIZE: constant(uint256) = 16
ITEM_SIZE: constant(uint256) = 64
ACTION_SIZE: constant(uint256) = 40
# A group of calls ends with its template: opening, middle, closing and view, then their sizes.
TEMPLATE_SIZES: constant(uint256) = 8
MAX_CALL: constant(uint256) = 512
MAX_MIDDLE: constant(uint256) = 96
MAX_VIEW: constant(uint256) = 68
MAX_VIEWED: constant(uint256) = 256
# 4 bytes of selector, offset, length and the words of a group's results
MAX_RETURN: constant(uint256) = 3300

interface IAavePool:
    def flashLoanSimple(
        receiver: address, asset: address, amount: uint256, params: Bytes[MAX_BATCH], referral: uint16
    ): nonpayable

interface IMorpho:
    def flashLoan(token: address, assets: uint256, data: Bytes[MAX_BATCH]): nonpayable

interface IBalancerVault:
    def flashLoan(
        recipient: address,
        tokens: DynArray[address, 1],
        amounts: DynArray[uint256, 1],
        userData: Bytes[MAX_BATCH],
    ): nonpayable

interface IUniswapV3Pool:
    def flash(recipient: address, amount0: uint256, amount1: uint256, data: Bytes[MAX_BATCH]): nonpayable
    def swap(
        recipient: address, zeroForOne: bool, amountSpecified: int256, sqrtPriceLimitX96: uint160, data: Bytes[32]
    ) -> (int256, int256): nonpayable

interface IDebtToken:
    def scaledBalanceOf(user: address) -> uint256: view
    def balanceOf(user: address) -> uint256: view

interface IWrappedNative:
    def deposit(): payable
    def withdraw(amount: uint256): nonpayable

interface IVault:
    def redeem(shares: uint256, receiver: address, owner: address) -> uint256: nonpayable

event Ran:
    operator: indexed(address)
    items: uint256
    groups: uint256
    tip: uint256
    refill: uint256
    tokens: DynArray[address, MAX_TOKENS]
    gains: DynArray[int256, MAX_TOKENS]

event Allowed:
    target: indexed(address)
    selector: indexed(bytes4)
    spender: address

event Disallowed:
    target: indexed(address)
    selector: indexed(bytes4)

event FactorySet:
    factory: indexed(address)
    init_code_hash: bytes32

event OperatorSet:
    operator: indexed(address)
    listed: bool

event BudgetSet:
    token: indexed(address)
    per_day: uint256
    kept: uint256

event TreasurySet:
    treasury: indexed(address)

event TipCapSet:
    cap: uint256

event RefillCapSet:
    per_day: uint256

event OwnershipOffered:
    owner: indexed(address)
    pending: indexed(address)

event OwnershipTaken:
    owner: indexed(address)

event Swept:
    token: indexed(address)
    amount: uint256

event ConversionSet:
    spend: indexed(address)
    receive: indexed(address)
    per_day: uint256
    least: uint256

event Converted:
    spend: indexed(address)
    receive: indexed(address)
    sold: uint256
    got: uint256
    refill: uint256

struct Conversion:
    per_day: uint256
    least: uint256
    day: uint256
    sold: uint256

NATIVE: constant(uint256) = 255
DAY: constant(uint256) = 86400
WAD: constant(uint256) = 10**18
OK: constant(uint256) = 1 << 255
MAX_UINT128: constant(uint256) = (1 << 128) - 1
LARGEST_TOLD: constant(uint256) = (1 << 127) - 1
LARGEST_GAIN: constant(int256) = 2**127 - 1
TWO_TO_96: constant(int256) = 2**96
MAX_UINT96: constant(uint256) = (1 << 96) - 1
MAX_UINT160: constant(uint256) = (1 << 160) - 1
MIN_SQRT_LIMIT: constant(uint160) = 4295128740
MAX_SQRT_LIMIT: constant(uint160) = 1461446703485210103287273052203988822378723970341

# What is left for the repayment, the tip and the guard after the last group, and for the sale after an item.
RUN_RESERVE: constant(uint256) = 120000
ITEM_RESERVE: constant(uint256) = 5000
COINBASE_GAS: constant(uint256) = 50000

FUND_INVENTORY: constant(uint256) = 0
FUND_AAVE: constant(uint256) = 1
FUND_UNISWAP: constant(uint256) = 2
FUND_MORPHO: constant(uint256) = 3
FUND_BALANCER: constant(uint256) = 4
# A loan to be taken apart, with the groups of its token alone: one whose premium they do not bring undoes no others.
APART: constant(uint256) = 1 << 7
EXPECT_SWAP: constant(uint256) = 5

PROTOCOL_AAVE: constant(uint256) = 0
PROTOCOL_CALL: constant(uint256) = 1
CHECK_NONE: constant(uint256) = 0
CHECK_SCALED: constant(uint256) = 1
CHECK_BALANCE: constant(uint256) = 2
CHECK_VIEW: constant(uint256) = 3

# What the call of an item takes beside its opening; without GAINLESS, one that brings no collateral has failed,
# unless TOGETHER.
WITH_BORROWER: constant(uint256) = 1
WITH_AMOUNT: constant(uint256) = 2
WITH_VALUE: constant(uint256) = 4
GAINLESS: constant(uint256) = 8
# Amounts of the calls are none of the debt token: they do not bound what is approved while they run.
UNBOUNDED: constant(uint256) = 16
# One call liquidates all items: it takes their borrowers as its one argument, a list, and leaves out whom it may not.
# One has failed whose debt did not fall; where the call reverts the group is undone.
TOGETHER: constant(uint256) = 32
TEMPLATED: constant(uint256) = 256

ACTION_SWAP: constant(uint256) = 1
ACTION_CALL: constant(uint256) = 2
ACTION_WRAP: constant(uint256) = 3
ACTION_UNWRAP: constant(uint256) = 4
ACTION_REDEEM: constant(uint256) = 5

AMOUNT_EXACT: constant(uint256) = 0
AMOUNT_GAINED: constant(uint256) = 1
AMOUNT_SHARE: constant(uint256) = 2

LIQUIDATION_CALL: constant(bytes4) = 0x00a718a9
AAVE_FLASH: constant(bytes4) = 0x42b0b77c
MORPHO_FLASH: constant(bytes4) = 0xe0232b42
BALANCER_FLASH: constant(bytes4) = 0x5c38449e
VAULT_REDEEM: constant(bytes4) = 0xba087652

# Own reasons: selectors of errors of the same name without arguments, but for GroupLoss(uint256[]).
BAD_BATCH: constant(uint256) = 2260583004  # 0x86bdc25c
BALANCE_FELL: constant(uint256) = 3071202444  # 0xb70ed48c
DEBT_BELOW_MINIMUM: constant(uint256) = 3419087446  # 0xcbcb2256
EXPIRED: constant(uint256) = 540902104  # 0x203d82d8
GAIN_BELOW_MINIMUM: constant(uint256) = 3686420597  # 0xdbba5075
GROUP_UNDONE: constant(uint256) = 2742312182  # 0xa3745cf6
INVENTORY_SHORT: constant(uint256) = 4200275785  # 0xfa5b1f49
LOAN_UNPAID: constant(uint256) = 2581432340  # 0x99dd8814
NATIVE_FELL: constant(uint256) = 1114224856  # 0x4269b8d8
NO_CALLBACK: constant(uint256) = 1483668070  # 0x586efa66
NO_REASON: constant(uint256) = 715796066  # 0x2aaa2e62
NOT_ALLOWED: constant(uint256) = 1030306522  # 0x3d693ada
NOT_OPERATOR: constant(uint256) = 2082557700  # 0x7c214f04
NOT_OWNER: constant(uint256) = 818771057  # 0x30cd7471
NOT_SELF: constant(uint256) = 700692462  # 0x29c3b7ee
NOTHING_GAINED: constant(uint256) = 526018952  # 0x1f5a6988
NOTHING_LEFT: constant(uint256) = 4087162944  # 0xf39d2840
RECEIVED_TOO_LITTLE: constant(uint256) = 2128605485  # 0x7edff12d
CALL_REFUSED: constant(uint256) = 2328231691  # 0x8ac5ff0b Refused()
STARVED: constant(uint256) = 1787784591  # 0x6a8f6d8f
TOKEN_NOT_LISTED: constant(uint256) = 3320881646  # 0xc5f0a1ee
UNEXPECTED_CALLBACK: constant(uint256) = 3669092755  # 0xdab1e993
UNKNOWN_FUNCTION: constant(uint256) = 3738973397  # 0xdedc34d5
UNKNOWN_PROTOCOL: constant(uint256) = 1179394580  # 0x464c2214
ADDRESS_IS_ZERO: constant(uint256) = 3643679549  # 0xd92e233d ZeroAddress()
GROUP_LOSS: constant(uint256) = 2238990785  # 0x857449c1 GroupLoss(uint256[])

# Selectors of calls that would move, approve, lend out or borrow against what the contract holds, in order:
# allowances and operators: approve(address,uint256), approve(address,address,uint160,uint48),
#   decreaseAllowance(address,uint256), decreaseApproval(address,uint256), approveAndCall(address,uint256),
#   approveAndCall(address,uint256,bytes), increaseAllowance(address,uint256), increaseApproval(address,uint256),
#   authorizeOperator(address), permit(address,address,uint256,uint256,uint8,bytes32,bytes32),
#   permit(address,address,uint256,uint256,bool,uint8,bytes32,bytes32), permit(address,address,uint256,uint256,bytes),
#   permit(address,((address,uint160,uint48,uint48),address,uint256),bytes), setApprovalForAll(address,bool),
#   setAuthorization(address,bool), allow(address,bool), setOperator(address,bool),
#   setAccountOperator(address,address,bool), setRelayerApproval(address,address,bool),
#   approveDelegation(address,uint256), delegationWithSig(address,address,uint256,uint256,uint8,bytes32,bytes32),
#   approvePositionManager(address,bool).
APPROVALS: constant(Bytes[88]) = x"095ea7b387517c45a457c2d7661884633177029fcae9ca5139509351d73dd623959b8c3fd505accf8fcbaf0c9fd5a6cf2b67b570a22cb465eecea000110496e5558a72979f5c462afa6e671dc04a8a100b52d558b8caa7c5"
# transfers: transfer(address,uint256), transferFrom(address,address,uint256), transferAndCall(address,uint256,bytes),
#   transferAndCall(address,uint256), transferFromAndCall(address,address,uint256),
#   transferFromAndCall(address,address,uint256,bytes), transferFrom(address,address,uint160,address),
#   safeTransferFrom(address,address,uint256), safeTransferFrom(address,address,uint256,bytes),
#   safeTransferFrom(address,address,uint256,uint256,bytes),
#   safeBatchTransferFrom(address,address,uint256[],uint256[],bytes), send(address,uint256,bytes),
#   operatorSend(address,address,uint256,bytes,bytes).
TRANSFERS: constant(Bytes[52]) = x"a9059cbb23b872dd4000aea01296ee62d8fbe994c1d34b8936c7851642842e0eb88d4fdef242432a2eb2c2d69bd9bbc662ad1b83"
# loans and withdrawals: borrow(address,uint256,uint256,uint16,address), borrow(uint256), borrow(uint256,address),
#   borrow((address,address,address,address,uint256),uint256,uint256,address,address), borrow(bytes32),
#   borrowETH(address,uint256,uint16), withdraw(address,uint256,address), withdraw(address,uint256),
#   withdraw(uint256), withdraw(uint256,address,address),
#   withdraw((address,address,address,address,uint256),uint256,uint256,address,address), withdraw(bytes32),
#   withdrawETH(address,uint256,address), withdrawTo(address,address,uint256),
#   withdrawFrom(address,address,address,uint256),
#   withdrawCollateral((address,address,address,address,uint256),uint256,address,address),
#   exitPool(bytes32,address,address,(address[],uint256[],bytes,bool)), requestRedeem(uint256,address,address).
TAKINGS: constant(Bytes[72]) = x"a415bcadc5ebeaec4b3fd14850d8cd4bd5eed868e74f7b8569328decf3fef3a32e1a7d4db460af945c2bea498e19899e80500d20c3b35a7e264413188720316d8bdb39137d41c86e"
# the rest: transferOwnership(address), transferAsset(address,address,uint256),
#   transferAssetFrom(address,address,address,uint256), manageUserBalance((uint8,address,uint256,address,address)[]),
#   setUserUseReserveAsCollateral(address,bool), setUserUseReserveAsCollateral(bytes32),
#   setUserUseReserveAsCollateralOnBehalfOf(address,bool,address), repayWithATokens(address,uint256,uint256),
#   repayWithATokens(bytes32), liquidationCall(bytes32,bytes32),
#   flashLoan(address,address[],uint256[],uint256[],address,bytes,uint16), multicall(bytes[]),
#   multicall(uint256,bytes[]), multicall(bytes32,bytes[]), call(address,address,uint256,bytes),
#   batch((address,address,uint256,bytes)[]), flash(address,uint256,uint256,bytes),
#   swap(address,bool,int256,uint160,bytes).
OTHERS: constant(Bytes[72]) = x"f2fde38b439e2e45c1ee2c180e8e3e845a3b74b94d013f03972b35fa2dad97d4dc7c0bfffd21ecffab9c4b5dac9650d85ae401dc1f0464d11f8b5215c16ae7a4490e6cbc128acb08"

# A target that answers balanceOf holds one of our balances: it must be listed when it is called.
IS_TOKEN: constant(uint256) = 1 << 160

WRAPPED_NATIVE: public(immutable(address))

owner: public(address)
pending_owner: public(address)
treasury: public(address)
tip_cap: public(uint256)
refill_cap: public(uint256)
refilled: public(HashMap[uint256, uint256])
operators: public(HashMap[address, bool])
allowed: HashMap[address, HashMap[bytes4, uint256]]
factories: public(HashMap[address, bytes32])
budgets: public(HashMap[address, uint256])
kept: public(HashMap[address, uint256])
spent: public(HashMap[address, HashMap[uint256, uint256]])
conversions: public(HashMap[address, HashMap[address, Conversion]])

expected: transient(uint256)
expected_token: transient(address)
expected_amount: transient(uint256)
expected_payload: transient(bytes32)
cursor: transient(uint256)
# By bits of token indexes: of which loans are taken and groups run now, and 128 above, which have their own turn.
turn: transient(uint256)
# Likewise of which groups held, and 16 above, of which there are any.
moved: transient(uint256)
token_count: transient(uint256)
addresses: transient(address[MAX_ADDRESSES])
item_results: transient(uint256[MAX_ITEMS])
group_results: transient(uint256[MAX_GROUPS])


@deploy
def __init__(owner: address, treasury: address, wrapped_native: address):
    """
    @notice Name the owner, where gains go and the wrapped native token; operators and permissions come later.
    """
    if owner == empty(address) or treasury == empty(address) or wrapped_native == empty(address):
        self._fail(ADDRESS_IS_ZERO)
    self.owner = owner
    self.treasury = treasury
    WRAPPED_NATIVE = wrapped_native
    log OwnershipTaken(owner=owner)
    log TreasurySet(treasury=treasury)


@external
@payable
def __default__():
    """
    @notice Take native coin; a call of an unknown function is refused.
    """
    if len(msg.data) != 0:
        self._fail(UNKNOWN_FUNCTION)


# The batch


@external
@nonreentrant
def run(batch: Bytes[MAX_BATCH]) -> (
    DynArray[uint256, MAX_ITEMS], DynArray[uint256, MAX_GROUPS], DynArray[int256, MAX_TOKENS], uint256, uint256
):
    """
    @notice Execute a batch: funds, groups, repayment, tip, refill, guard.
    @return Items and groups as words ok << 255 | reason << 128 | gain, gains by token, tip, refill.
    """
    if not self.operators[msg.sender]:
        self._fail(NOT_OPERATOR)
    head: uint256 = extract32(batch, 0, output_type=uint256)
    if block.timestamp > head >> 192:
        self._fail(EXPIRED)
    count: uint256 = (head >> 184) & 255
    listed: uint256 = (head >> 176) & 255
    group_count: uint256 = (head >> 152) & 255
    if count > MAX_TOKENS or count > listed or listed > MAX_ADDRESSES:
        self._fail(BAD_BATCH)

    self.cursor = 0
    self.token_count = count
    offset: uint256 = HEADER_SIZE
    native_before: uint256 = self.balance
    tokens: DynArray[address, MAX_TOKENS] = []
    before: uint256[MAX_TOKENS] = empty(uint256[MAX_TOKENS])
    wrapped: uint256 = NATIVE
    for i: uint256 in range(listed, bound=MAX_ADDRESSES):
        token: address = convert(extract32(batch, offset, output_type=uint256) >> 96, address)
        offset += ADDRESS_SIZE
        self.addresses[i] = token
        if i < count:
            tokens.append(token)
            before[i] = staticcall IERC20(token).balanceOf(self)
            if token == WRAPPED_NATIVE:
                wrapped = i

    lent: uint256 = 0
    apart: uint256 = 0
    for i: uint256 in range((head >> 168) & 255, bound=MAX_FUNDS):
        word: uint256 = extract32(batch, offset + FUND_SIZE * i, output_type=uint256)
        lent |= 1 << ((word >> 240) & 255)
        if (word >> 248) & APART != 0:
            apart |= 1 << ((word >> 240) & 255)

    # No loan is taken, and no premium lost, where rivals have left nothing of its token; of each token it stops at
    # the first item alive.
    live: uint256 = 0
    seen: uint256 = 0
    place: uint256 = offset + FUND_SIZE * ((head >> 168) & 255) + MINIMUM_SIZE * ((head >> 160) & 255)
    for i: uint256 in range(group_count, bound=MAX_GROUPS):
        word: uint256 = extract32(batch, place, output_type=uint256)
        self.group_results[i] = NOTHING_LEFT << 128
        at: uint256 = place + 2 + GROUP_HEADER_SIZE
        place += 2 + (word >> 240)
        debt: uint256 = 1 << ((word >> 208) & 255)
        if live & debt == 0:
            check: uint256 = (word >> 192) & 255
            debt_token: address = self.addresses[(word >> 200) & 255]
            view: Bytes[MAX_VIEW] = b""
            nth: uint256 = 0
            if check == CHECK_VIEW:
                sizes: uint256 = extract32(batch, place - 32, output_type=uint256)
                view = convert(
                    slice(batch, place - TEMPLATE_SIZES - ((sizes >> 16) & 255), (sizes >> 16) & 255), Bytes[MAX_VIEW]
                )
                nth = (sizes >> 8) & 255
            for k: uint256 in range((word >> 184) & 255, bound=MAX_ITEMS):
                if self._owed(
                    check,
                    debt_token,
                    extract32(batch, at, output_type=uint256) >> 96,
                    view,
                    nth,
                    (word >> 144) & 4294967295,
                ) >= extract32(batch, at + 32, output_type=uint256) & MAX_UINT128:
                    live |= debt
                    break
                self.item_results[seen + k] = DEBT_BELOW_MINIMUM << 128
                at += ITEM_SIZE
        seen += (word >> 184) & 255
        if live != 0 and lent & ~live == 0:
            break
    self.moved = 0
    if live != 0:
        apart &= live
        self.turn = (apart << 128) | (~(apart | (lent & ~live)) & MAX_UINT128)
        self._advance(batch)
        if apart != 0:
            for i: uint256 in range(MAX_TOKENS):
                if (apart >> i) & 1 == 1:
                    ok: bool = False
                    answer: Bytes[4] = b""
                    ok, answer = raw_call(
                        self,
                        abi_encode(batch, i, method_id=method_id("run_apart(bytes,uint256)")),
                        max_outsize=4,
                        revert_on_failure=False,
                    )
                    if not ok and convert(answer, uint256) == STARVED:
                        self._fail(STARVED)
    elif seen != (head >> 144) & 255:
        self._fail(BAD_BATCH)

    tip: uint256 = head & MAX_UINT128
    refill: uint256 = extract32(batch, 16, output_type=uint256) & MAX_UINT128
    tip_share: uint256 = (head >> 128) & 65535
    if wrapped == NATIVE:
        tip = 0
        refill = 0
    elif tip + refill != 0:
        tip, refill = self._pay(before[wrapped], tip, tip_share, refill)

    gains: DynArray[int256, MAX_TOKENS] = []
    for i: uint256 in range(count, bound=MAX_TOKENS):
        balance: uint256 = staticcall IERC20(tokens[i]).balanceOf(self)
        gains.append(convert(balance, int256) - convert(before[i], int256))
        if balance < before[i]:
            self._spend(tokens[i], before[i] - balance)
    if self.balance < native_before:
        self._fail(NATIVE_FELL)

    offset += FUND_SIZE * ((head >> 168) & 255)
    for i: uint256 in range((head >> 160) & 255, bound=MAX_MINIMUMS):
        word: uint256 = extract32(batch, offset, output_type=uint256)
        offset += MINIMUM_SIZE
        gain: int256 = gains[word >> 248]
        if gain < convert((word >> 120) & MAX_UINT128, int256):
            # Where groups of other tokens held, one of whose groups none did may bring nothing, and lose nothing.
            moved: uint256 = self.moved
            if gain < 0 or moved & 65535 == 0 or (moved >> (word >> 248)) & 65537 != 65536:
                self._fail(GAIN_BELOW_MINIMUM)

    items: DynArray[uint256, MAX_ITEMS] = []
    groups: DynArray[uint256, MAX_GROUPS] = []
    item_bits: uint256 = 0
    group_bits: uint256 = 0
    for i: uint256 in range(group_count, bound=MAX_GROUPS):
        word: uint256 = self.group_results[i]
        groups.append(word)
        group_bits |= (word >> 255) << i
    for i: uint256 in range((head >> 144) & 255, bound=MAX_ITEMS):
        word: uint256 = self.item_results[i]
        items.append(word)
        item_bits |= (word >> 255) << i
    log Ran(
        operator=msg.sender,
        items=item_bits,
        groups=group_bits,
        tip=tip,
        refill=refill,
        tokens=tokens,
        gains=gains,
    )
    return items, groups, gains, tip, refill


@internal
def _pay(before: uint256, tip_asked: uint256, tip_share: uint256, refill_asked: uint256) -> (uint256, uint256):
    balance: uint256 = staticcall IERC20(WRAPPED_NATIVE).balanceOf(self)
    if balance <= before:
        return 0, 0
    gain: uint256 = balance - before
    tip: uint256 = min(min(tip_asked, self.tip_cap), gain * min(tip_share, 10000) // 10000)
    refill: uint256 = 0
    if refill_asked != 0:
        day: uint256 = block.timestamp // DAY
        done: uint256 = self.refilled[day]
        cap: uint256 = self.refill_cap
        if done < cap:
            refill = min(min(refill_asked, cap - done), gain - tip)
            self.refilled[day] = done + refill
    if tip + refill != 0:
        extcall IWrappedNative(WRAPPED_NATIVE).withdraw(tip + refill)
    if tip != 0:
        # A producer that cannot be paid must not undo the batch.
        if not raw_call(block.coinbase, b"", value=tip, gas=COINBASE_GAS, revert_on_failure=False):
            extcall IWrappedNative(WRAPPED_NATIVE).deposit(value=tip)
            tip = 0
    if refill != 0:
        raw_call(msg.sender, b"", value=refill, gas=COINBASE_GAS)
    return tip, refill


@internal
def _spend(token: address, amount: uint256):
    budget: uint256 = self.budgets[token]
    day: uint256 = block.timestamp // DAY
    spent: uint256 = self.spent[token][day] + amount
    if spent > budget:
        self._fail(BALANCE_FELL)
    self.spent[token][day] = spent


# Funds: each flash loan calls back into the next, the innermost one runs the groups


@external
def run_apart(batch: Bytes[MAX_BATCH], token: uint256):
    """
    @notice Take the loans of one token and run its groups; only this contract may call.
    """
    if msg.sender != self:
        self._fail(NOT_SELF)
    self.cursor = 0
    self.turn = 1 << token
    self._advance(batch)


@internal
def _advance(batch: Bytes[MAX_BATCH]):
    head: uint256 = extract32(batch, 0, output_type=uint256)
    turn: uint256 = self.turn
    fund_count: uint256 = (head >> 168) & 255
    offset: uint256 = HEADER_SIZE + ADDRESS_SIZE * ((head >> 176) & 255)
    for i: uint256 in range(self.cursor, fund_count, bound=MAX_FUNDS):
        word: uint256 = extract32(batch, offset + FUND_SIZE * i, output_type=uint256)
        if (turn >> ((word >> 240) & 255)) & 1 == 0:
            continue
        kind: uint256 = (word >> 248) & (APART - 1)
        token: address = self._token((word >> 240) & 255)
        source: address = self.addresses[(word >> 200) & 255]
        amount: uint256 = (word >> 72) & MAX_UINT128
        if kind == FUND_INVENTORY:
            if staticcall IERC20(token).balanceOf(self) < amount:
                self._fail(INVENTORY_SHORT)
            continue
        self.cursor = i + 1
        if kind == FUND_AAVE:
            self._require_allowed(source, AAVE_FLASH)
            self._expect(kind, source, token, amount, keccak256(batch))
            extcall IAavePool(source).flashLoanSimple(self, token, amount, batch, 0)
            self._clear_allowance(token, source)
        elif kind == FUND_UNISWAP:
            other: address = self._token((word >> 232) & 255)
            pool: address = self._pool(source, token, other, (word >> 208) & 16777215)
            self._expect(kind, pool, token, amount, keccak256(batch))
            if convert(token, uint256) < convert(other, uint256):
                extcall IUniswapV3Pool(pool).flash(self, amount, 0, batch)
            else:
                extcall IUniswapV3Pool(pool).flash(self, 0, amount, batch)
        elif kind == FUND_MORPHO:
            self._require_allowed(source, MORPHO_FLASH)
            self._expect(kind, source, token, amount, keccak256(batch))
            extcall IMorpho(source).flashLoan(token, amount, batch)
            self._clear_allowance(token, source)
        elif kind == FUND_BALANCER:
            self._require_allowed(source, BALANCER_FLASH)
            self._expect(kind, source, token, amount, keccak256(batch))
            extcall IBalancerVault(source).flashLoan(self, [token], [amount], batch)
        else:
            self._fail(BAD_BATCH)
        if self.expected != 0:
            self._fail(NO_CALLBACK)
        return

    offset += FUND_SIZE * fund_count + MINIMUM_SIZE * ((head >> 160) & 255)
    first: uint256 = 0
    moved: uint256 = self.moved
    for i: uint256 in range((head >> 152) & 255, bound=MAX_GROUPS):
        word: uint256 = extract32(batch, offset, output_type=uint256)
        size: uint256 = word >> 240
        group_gas: uint256 = (word >> 112) & 4294967295
        count: uint256 = (word >> 184) & 255
        debt: uint256 = (word >> 208) & 255
        if debt >= MAX_TOKENS:
            self._fail(BAD_BATCH)
        moved |= 1 << (debt + 16)
        if (turn >> debt) & 1 == 0:
            # Unless its turn comes and lasts.
            if (turn >> (debt + 128)) & 1 == 1:
                self.group_results[i] = LOAN_UNPAID << 128
                for k: uint256 in range(count, bound=MAX_ITEMS):
                    self.item_results[first + k] = GROUP_UNDONE << 128
            offset += 2 + size
            first += count
            continue
        # The call gets at most 63/64 of what is left: a starved group would look like a lost one.
        if msg.gas < group_gas * 64 // 63 + RUN_RESERVE:
            self._fail(STARVED)
        ok: bool = False
        answer: Bytes[MAX_RETURN] = b""
        ok, answer = raw_call(
            self,
            abi_encode(slice(batch, offset + 2, size), method_id=method_id("run_group(bytes)")),
            max_outsize=MAX_RETURN,
            gas=group_gas,
            revert_on_failure=False,
        )
        offset += 2 + size
        if ok:
            result: uint256 = extract32(answer, 64, output_type=uint256)
            self.group_results[i] = result
            moved |= (result >> 255) << debt
            for k: uint256 in range(count, bound=MAX_ITEMS):
                self.item_results[first + k] = extract32(answer, 96 + 32 * k, output_type=uint256)
        else:
            reason: uint256 = 0
            told: bool = False
            if len(answer) >= 4:
                reason = convert(convert(slice(answer, 0, 4), bytes4), uint256)
                told = reason == GROUP_LOSS and len(answer) >= 100 + 32 * count
            self.group_results[i] = reason << 128
            if told:
                # A call of the group may have reverted with these bytes: whatever they say, nothing held.
                self.group_results[i] |= extract32(answer, 68, output_type=uint256) & MAX_UINT128
            for k: uint256 in range(count, bound=MAX_ITEMS):
                result: uint256 = GROUP_UNDONE << 128
                if told:
                    told_word: uint256 = extract32(answer, 100 + 32 * k, output_type=uint256)
                    if told_word >> 255 == 1:
                        result |= told_word & MAX_UINT128
                    else:
                        result = told_word & MAX_UINT160
                self.item_results[first + k] = result
        first += count
    self.moved = moved
    if first != (head >> 144) & 255:
        self._fail(BAD_BATCH)


@external
def executeOperation(
    asset: address, amount: uint256, premium: uint256, initiator: address, params: Bytes[MAX_BATCH]
) -> bool:
    """
    @notice Take an Aave flash loan this contract asked for.
    """
    token: address = self._take_expected(FUND_AAVE, amount, keccak256(params))
    if initiator != self or asset != token:
        self._fail(UNEXPECTED_CALLBACK)
    self._advance(params)
    self._approve(token, msg.sender, amount + premium)
    return True


@external
def onMorphoFlashLoan(assets: uint256, data: Bytes[MAX_BATCH]):
    """
    @notice Take a Morpho flash loan this contract asked for.
    """
    token: address = self._take_expected(FUND_MORPHO, assets, keccak256(data))
    self._advance(data)
    self._approve(token, msg.sender, assets)


@external
def receiveFlashLoan(
    tokens: DynArray[address, 1],
    amounts: DynArray[uint256, 1],
    feeAmounts: DynArray[uint256, 1],
    userData: Bytes[MAX_BATCH],
):
    """
    @notice Take a Balancer flash loan this contract asked for.
    """
    token: address = self._take_expected(FUND_BALANCER, amounts[0], keccak256(userData))
    if tokens[0] != token:
        self._fail(UNEXPECTED_CALLBACK)
    self._advance(userData)
    self._transfer(token, msg.sender, amounts[0] + feeAmounts[0])


@external
def uniswapV3FlashCallback(fee0: uint256, fee1: uint256, data: Bytes[MAX_BATCH]):
    """
    @notice Take a Uniswap V3 flash loan this contract asked for; the fee of the token not borrowed is zero.
    """
    amount: uint256 = self.expected_amount
    token: address = self._take_expected(FUND_UNISWAP, amount, keccak256(data))
    self._advance(data)
    self._transfer(token, msg.sender, amount + fee0 + fee1)


@external
def uniswapV3SwapCallback(amount0Delta: int256, amount1Delta: int256, data: Bytes[32]):
    """
    @notice Pay the Uniswap V3 pool of the swap in progress.
    """
    owed: uint256 = convert(max(amount0Delta, amount1Delta), uint256)
    token: address = self._take_expected(EXPECT_SWAP, owed, keccak256(data))
    self._transfer(token, msg.sender, owed)


@internal
def _expect(kind: uint256, caller: address, token: address, amount: uint256, payload: bytes32):
    self.expected = kind << 160 | convert(caller, uint256)
    self.expected_token = token
    self.expected_amount = amount
    self.expected_payload = payload


@internal
def _take_expected(kind: uint256, amount: uint256, payload: bytes32) -> address:
    if self.expected != kind << 160 | convert(msg.sender, uint256):
        self._fail(UNEXPECTED_CALLBACK)
    if self.expected_payload != payload or amount > self.expected_amount:
        self._fail(UNEXPECTED_CALLBACK)
    self.expected = 0
    return self.expected_token


# A group: items, then one sale of what they gained


@external
def run_group(group: Bytes[MAX_GROUP]) -> DynArray[uint256, MAX_RESULTS]:
    """
    @notice Liquidate the items of one group and sell what they gained; only this contract may call.
    @return The group's word, then one word per item.
    """
    if msg.sender != self:
        self._fail(NOT_SELF)
    head: uint256 = extract32(group, 0, output_type=uint256)
    pool: address = self.addresses[(head >> 240) & 255]
    collateral: address = self._token((head >> 232) & 255)
    debt: address = self._token((head >> 224) & 255)
    check: uint256 = (head >> 208) & 255
    count: uint256 = (head >> 200) & 255
    item_gas: uint256 = (head >> 160) & 4294967295
    opening: Bytes[MAX_CALL] = b""
    middle: Bytes[MAX_MIDDLE] = b""
    closing: Bytes[MAX_CALL] = b""
    view: Bytes[MAX_VIEW] = b""
    nth: uint256 = 0
    flags: uint256 = 0
    spender: address = pool
    if head >> 248 == PROTOCOL_AAVE:
        self._require_allowed(pool, LIQUIDATION_CALL)
    elif head >> 248 == PROTOCOL_CALL:
        sizes: uint256 = extract32(group, len(group) - 32, output_type=uint256)
        at: uint256 = len(group) - TEMPLATE_SIZES - ((sizes >> 16) & 255)
        view = convert(slice(group, at, (sizes >> 16) & 255), Bytes[MAX_VIEW])
        at -= (sizes >> 24) & 65535
        closing = convert(slice(group, at, (sizes >> 24) & 65535), Bytes[MAX_CALL])
        at -= (sizes >> 40) & 255
        middle = convert(slice(group, at, (sizes >> 40) & 255), Bytes[MAX_MIDDLE])
        at -= (sizes >> 48) & 65535
        opening = convert(slice(group, at, (sizes >> 48) & 65535), Bytes[MAX_CALL])
        nth = (sizes >> 8) & 255
        flags = sizes & 255 | TEMPLATED
        spender = self._permit(convert(slice(opening, 0, 4), bytes4), (head >> 240) & 255)
    else:
        self._fail(UNKNOWN_PROTOCOL)

    results: DynArray[uint256, MAX_RESULTS] = [NOTHING_LEFT << 128]
    total: uint256 = 0
    live: bool = False
    debt_token: address = self.addresses[(head >> 216) & 255]
    offset: uint256 = GROUP_HEADER_SIZE
    for i: uint256 in range(count, bound=MAX_ITEMS):
        amounts: uint256 = extract32(group, offset + 32, output_type=uint256)
        borrower: uint256 = extract32(group, offset, output_type=uint256) >> 96
        if self._owed(check, debt_token, borrower, view, nth, item_gas) < amounts & MAX_UINT128:
            results.append(DEBT_BELOW_MINIMUM << 128)
        else:
            results.append(0)
            total += amounts >> 128
            live = True
        offset += ITEM_SIZE
    if not live:
        return results

    starts: uint256[MAX_TOKENS + 1] = empty(uint256[MAX_TOKENS + 1])
    known: uint256 = 1 << ((head >> 232) & 255) | 1 << ((head >> 224) & 255)
    debt_start: uint256 = staticcall IERC20(debt).balanceOf(self)
    held: uint256 = debt_start
    if collateral != debt:
        held = staticcall IERC20(collateral).balanceOf(self)
    starts[(head >> 224) & 255] = debt_start
    starts[(head >> 232) & 255] = held

    # A liquidation may bring native coin beside its two tokens.
    starts[MAX_TOKENS] = self.balance
    known |= 1 << MAX_TOKENS
    if flags & WITH_VALUE != 0:
        if debt != WRAPPED_NATIVE:
            self._fail(BAD_BATCH)
        extcall IWrappedNative(WRAPPED_NATIVE).withdraw(total)
    else:
        allowance: uint256 = total
        if flags & UNBOUNDED != 0:
            allowance = max_value(uint256)
        self._approve(debt, spender, allowance)
    minimum: int256 = 0
    survived: bool = False
    ok: bool = False
    answer: Bytes[4] = b""
    if flags & TOGETHER != 0:
        called: DynArray[address, MAX_ITEMS] = []
        offset = GROUP_HEADER_SIZE
        for i: uint256 in range(count, bound=MAX_ITEMS):
            if results[i + 1] == 0:
                called.append(convert(extract32(group, offset, output_type=uint256) >> 96, address))
            offset += ITEM_SIZE
        # What one item may use is kept for the sale.
        if msg.gas < item_gas * 3 // 2:
            self._fail(STARVED)
        ok, answer = raw_call(
            pool,
            concat(opening, abi_encode(called)),
            max_outsize=4,
            gas=msg.gas - item_gas,
            revert_on_failure=False,
        )
        # It does not say whose call it was: the group is undone, so that a part of it can be tried.
        if not ok:
            if len(answer) == 4:
                raw_revert(answer)
            self._fail(NO_REASON)
    offset = GROUP_HEADER_SIZE
    for i: uint256 in range(count, bound=MAX_ITEMS):
        if results[i + 1] == 0:
            word: uint256 = extract32(group, offset, output_type=uint256)
            amounts: uint256 = extract32(group, offset + 32, output_type=uint256)
            amount: uint256 = amounts >> 128
            gained: uint256 = 0
            done: bool = False
            if flags & TOGETHER != 0:
                done = self._owed(check, debt_token, word >> 96, view, nth, item_gas) < amounts & MAX_UINT128
            else:
                if msg.gas < item_gas * 64 // 63 + ITEM_RESERVE:
                    self._fail(STARVED)
                if flags == 0:
                    ok, answer = raw_call(
                        pool,
                        abi_encode(
                            collateral,
                            debt,
                            convert(word >> 96, address),
                            amount,
                            False,
                            method_id=LIQUIDATION_CALL,
                        ),
                        max_outsize=4,
                        gas=item_gas,
                        revert_on_failure=False,
                    )
                else:
                    ok, answer = raw_call(
                        pool,
                        concat(
                            opening,
                            slice(convert(word >> 96, bytes32), 0, 32 * (flags & 1)),
                            middle,
                            slice(convert(amount, bytes32), 0, 32 * ((flags >> 1) & 1)),
                            closing,
                        ),
                        max_outsize=4,
                        gas=item_gas,
                        value=amount * ((flags >> 2) & 1),
                        revert_on_failure=False,
                    )
                if ok:
                    holds: uint256 = staticcall IERC20(collateral).balanceOf(self)
                    if holds > held:
                        gained = min(holds - held, LARGEST_TOLD)
                    held = holds
                done = gained != 0 or (ok and flags & (TEMPLATED | GAINLESS) != TEMPLATED)
            if done:
                survived = True
                total -= amount
                # A negative minimum is what an item may cost when its collateral is held, not sold.
                minimum += convert(word & MAX_UINT96, int256)
                if (word >> 95) & 1 == 1:
                    minimum -= TWO_TO_96
                results[i + 1] = OK | gained
            elif ok:
                # Some protocols return an error instead of reverting.
                results[i + 1] = NOTHING_GAINED << 128
            elif len(answer) == 4:
                results[i + 1] = convert(convert(answer, bytes4), uint256) << 128
            else:
                results[i + 1] = NO_REASON << 128
        offset += ITEM_SIZE
    if flags & WITH_VALUE == 0:
        self._clear_allowance(debt, spender)
    elif total != 0:
        extcall IWrappedNative(WRAPPED_NATIVE).deposit(value=total)
    if not survived:
        return results

    offset = GROUP_HEADER_SIZE + ITEM_SIZE * count
    for i: uint256 in range((head >> 192) & 255, bound=MAX_ACTIONS):
        word: uint256 = extract32(group, offset, output_type=uint256)
        rest: uint256 = extract32(group, offset + 8, output_type=uint256)
        offset += ACTION_SIZE
        spend_index: uint256 = (word >> 240) & 255
        receive_index: uint256 = (word >> 232) & 255
        spend: address = self._coin(spend_index)
        receive: address = self._coin(receive_index)
        if spend == receive:
            self._fail(BAD_BATCH)
        slot: uint256 = min(receive_index, MAX_TOKENS)
        before: uint256 = self._balance(receive)
        # Items touch the group's two tokens only, so any other token still has its first balance here.
        if (known >> slot) & 1 == 0:
            known |= 1 << slot
            starts[slot] = before

        amount: uint256 = (word >> 96) & MAX_UINT128
        mode: uint256 = (word >> 252) & 3
        if mode != AMOUNT_EXACT:
            slot = min(spend_index, MAX_TOKENS)
            holds: uint256 = self._balance(spend)
            start: uint256 = holds
            if (known >> slot) & 1 == 1:
                start = starts[slot]
            if holds <= start:
                self._fail(NOTHING_GAINED)
            if mode == AMOUNT_GAINED:
                amount = holds - start
            else:
                amount = (holds - start) * amount // WAD
        if amount == 0:
            self._fail(NOTHING_GAINED)

        kind: uint256 = (word >> 248) & 15
        target: address = self.addresses[(word >> 224) & 255]
        if kind == ACTION_SWAP:
            self._swap(target, (rest >> 8) & 16777215, spend, receive, amount)
        elif kind == ACTION_CALL:
            head_size: uint256 = (rest >> 16) & 65535
            tail_size: uint256 = rest & 65535
            if head_size < 4:
                self._fail(BAD_BATCH)
            start: uint256 = offset
            offset += head_size + tail_size
            value: uint256 = 0
            if spend_index == NATIVE:
                value = amount
            spender = self._permit(convert(slice(group, start, 4), bytes4), (word >> 224) & 255)
            if spend_index != NATIVE:
                self._approve(spend, spender, amount)
            if word >> 255 == 1:
                raw_call(target, slice(group, start, head_size + tail_size), value=value)
            else:
                raw_call(
                    target,
                    concat(
                        slice(group, start, head_size),
                        convert(amount, bytes32),
                        slice(group, start + head_size, tail_size),
                    ),
                    value=value,
                )
            if spend_index != NATIVE:
                self._clear_allowance(spend, spender)
        elif kind == ACTION_WRAP:
            if spend_index != NATIVE or receive != WRAPPED_NATIVE:
                self._fail(BAD_BATCH)
            extcall IWrappedNative(WRAPPED_NATIVE).deposit(value=amount)
        elif kind == ACTION_UNWRAP:
            if receive_index != NATIVE or spend != WRAPPED_NATIVE:
                self._fail(BAD_BATCH)
            extcall IWrappedNative(WRAPPED_NATIVE).withdraw(amount)
        elif kind == ACTION_REDEEM:
            self._require_allowed(spend, VAULT_REDEEM)
            extcall IVault(spend).redeem(amount, self, self)
        else:
            self._fail(BAD_BATCH)
        after: uint256 = self._balance(receive)
        if after < before or after - before < (rest >> 32) & MAX_UINT128:
            self._fail(RECEIVED_TOO_LITTLE)

    gain: int256 = convert(staticcall IERC20(debt).balanceOf(self), int256) - convert(debt_start, int256)
    # Two's complement of 128 bits.
    told: uint256 = convert(convert(max(min(gain, LARGEST_GAIN), -LARGEST_GAIN), bytes32), uint256) & MAX_UINT128
    if gain < minimum:
        results[0] = GROUP_LOSS << 128 | told
        raw_revert(abi_encode(results, method_id=method_id("GroupLoss(uint256[])")))
    results[0] = OK | told
    return results


@internal
def _swap(factory: address, fee: uint256, spend: address, receive: address, amount: uint256):
    pool: address = self._pool(factory, spend, receive, fee)
    zero_for_one: bool = convert(spend, uint256) < convert(receive, uint256)
    limit: uint160 = MAX_SQRT_LIMIT
    if zero_for_one:
        limit = MIN_SQRT_LIMIT
    self._expect(EXPECT_SWAP, pool, spend, amount, keccak256(b""))
    extcall IUniswapV3Pool(pool).swap(self, zero_for_one, convert(amount, int256), limit, b"")
    if self.expected != 0:
        self._fail(NO_CALLBACK)


@internal
@view
def _permit(selector: bytes4, index: uint256) -> address:
    # Who gets the approval for a call the owner allowed.
    entry: uint256 = self.allowed[self.addresses[index]][selector]
    if entry == 0 or selector in [LIQUIDATION_CALL, AAVE_FLASH, MORPHO_FLASH, BALANCER_FLASH, VAULT_REDEEM]:
        self._fail(NOT_ALLOWED)
    if entry & IS_TOKEN != 0 and index >= self.token_count:
        self._fail(TOKEN_NOT_LISTED)
    return convert(entry & MAX_UINT160, address)


# Failing, reading and moving coins


@internal
@pure
def _fail(reason: uint256):
    # One place for every refusal: repeated at each, their words would not fit into a contract.
    raw_revert(slice(convert(reason << 224, bytes32), 0, 4))


@internal
@view
def _owed(
    check: uint256, debt_token: address, borrower: uint256, view: Bytes[MAX_VIEW], nth: uint256, item_gas: uint256
) -> uint256:
    if check == CHECK_SCALED:
        return staticcall IDebtToken(debt_token).scaledBalanceOf(convert(borrower, address))
    if check == CHECK_BALANCE:
        return staticcall IDebtToken(debt_token).balanceOf(convert(borrower, address))
    if check == CHECK_VIEW:
        ok: bool = False
        answer: Bytes[MAX_VIEWED] = b""
        ok, answer = raw_call(
            debt_token,
            concat(view, convert(borrower, bytes32)),
            max_outsize=MAX_VIEWED,
            gas=item_gas,
            is_static_call=True,
            revert_on_failure=False,
        )
        # What cannot be read does not bar, lest one market undo the others: its call decides.
        if ok and len(answer) >= 32 * nth + 32:
            return extract32(answer, 32 * nth, output_type=uint256)
    return max_value(uint256)


@internal
@view
def _token(index: uint256) -> address:
    # Only a snapshotted token may be named, and entries of an earlier run in this transaction may lie behind.
    if index >= self.token_count:
        self._fail(TOKEN_NOT_LISTED)
    return self.addresses[index]


@internal
@view
def _coin(index: uint256) -> address:
    if index == NATIVE:
        return empty(address)
    return self._token(index)


@internal
@view
def _balance(coin: address) -> uint256:
    if coin == empty(address):
        return self.balance
    return staticcall IERC20(coin).balanceOf(self)


@internal
@view
def _require_allowed(target: address, selector: bytes4):
    if self.allowed[target][selector] == 0:
        self._fail(NOT_ALLOWED)


@internal
@view
def _pool(factory: address, token: address, other: address, fee: uint256) -> address:
    init_code_hash: bytes32 = self.factories[factory]
    if init_code_hash == empty(bytes32):
        self._fail(NOT_ALLOWED)
    salt: bytes32 = empty(bytes32)
    if convert(token, uint256) < convert(other, uint256):
        salt = keccak256(abi_encode(token, other, fee))
    else:
        salt = keccak256(abi_encode(other, token, fee))
    digest: bytes32 = keccak256(concat(0xff, convert(factory, bytes20), salt, init_code_hash))
    return convert(convert(digest, uint256) & MAX_UINT160, address)


@internal
def _approve(token: address, spender: address, amount: uint256):
    if staticcall IERC20(token).allowance(self, spender) != 0:
        assert extcall IERC20(token).approve(spender, 0, default_return_value=True)
    assert extcall IERC20(token).approve(spender, amount, default_return_value=True)


@internal
def _clear_allowance(token: address, spender: address):
    if staticcall IERC20(token).allowance(self, spender) != 0:
        assert extcall IERC20(token).approve(spender, 0, default_return_value=True)


@internal
def _transfer(token: address, to: address, amount: uint256):
    assert extcall IERC20(token).transfer(to, amount, default_return_value=True)


# The treasury


@external
@nonreentrant
def convert(
    factory: address, fee: uint256, spend: address, receive: address, amount: uint256, minimum: uint256, refill: uint256
):
    """
    @notice Sell profit in one pool by the owner's rule for these two tokens. What came in as wrapped native
        token may refill the operator's gas, within the owner's cap.
    """
    if not self.operators[msg.sender]:
        self._fail(NOT_OPERATOR)
    held: uint256 = self._balance(spend)
    before: uint256 = self._balance(receive)
    # What the owner keeps is working capital, not profit.
    if held < amount + self.kept[spend]:
        self._fail(INVENTORY_SHORT)
    self._swap(factory, fee, spend, receive, amount)
    sold: uint256 = held - self._balance(spend)
    got: uint256 = self._balance(receive) - before
    rule: Conversion = self.conversions[spend][receive]
    if rule.day != block.timestamp // DAY:
        rule.day = block.timestamp // DAY
        rule.sold = 0
    rule.sold += sold
    if rule.sold > rule.per_day:
        self._fail(NOT_ALLOWED)
    if got < minimum or got * rule.per_day < sold * rule.least:
        self._fail(RECEIVED_TOO_LITTLE)
    self.conversions[spend][receive] = rule
    tip: uint256 = 0
    paid: uint256 = 0
    if receive == WRAPPED_NATIVE:
        tip, paid = self._pay(before, 0, 0, refill)
    log Converted(spend=spend, receive=receive, sold=sold, got=got, refill=paid)


@external
@nonreentrant
def sweep(token: address) -> uint256:
    """
    @notice Send what is held of a token above the owner's kept amount to the treasury; zero is the native coin.
    """
    kept: uint256 = self.kept[token]
    balance: uint256 = self._balance(token)
    if balance <= kept:
        return 0
    loose: uint256 = balance - kept
    self._send_to_treasury(token, loose)
    return loose


@external
@nonreentrant
def withdraw(token: address, amount: uint256):
    """
    @notice Send an amount to the treasury, kept inventory included.
    """
    self._only_owner()
    self._send_to_treasury(token, amount)


@internal
def _send_to_treasury(token: address, amount: uint256):
    treasury: address = self.treasury
    if token == empty(address):
        raw_call(treasury, b"", value=amount)
    else:
        self._transfer(token, treasury, amount)
    log Swept(token=token, amount=amount)


# The owner


@internal
@view
def _only_owner():
    if msg.sender != self.owner:
        self._fail(NOT_OWNER)


@external
@nonreentrant
def transfer_ownership(pending: address):
    """
    @notice Offer the ownership; it moves when the new owner accepts.
    """
    self._only_owner()
    self.pending_owner = pending
    log OwnershipOffered(owner=msg.sender, pending=pending)


@external
@nonreentrant
def accept_ownership():
    """
    @notice Take the ownership that was offered to the caller.
    """
    if msg.sender != self.pending_owner:
        self._fail(NOT_OWNER)
    self.owner = msg.sender
    self.pending_owner = empty(address)
    log OwnershipTaken(owner=msg.sender)


@external
@nonreentrant
def set_operator(operator: address, listed: bool):
    """
    @notice List or remove an operator.
    """
    self._only_owner()
    self.operators[operator] = listed
    log OperatorSet(operator=operator, listed=listed)


@external
@nonreentrant
def allow(target: address, selector: bytes4, spender: address):
    """
    @notice Allow a call. The spender gets the approval for one action; zero means the target itself.
    @dev Whether the target is a token, and so must be listed when called, is seen here. A target that takes
        another token of ours without an approval (a pool that burns its separate share token) must not be
        allowed while such tokens are held: a batch need not list them.
    """
    self._only_owner()
    # A call to an address without code succeeds and does nothing: an item would look liquidated.
    if target == self or spender == self or not target.is_contract:
        self._fail(CALL_REFUSED)
    refused: Bytes[284] = concat(APPROVALS, TRANSFERS, TAKINGS, OTHERS)
    for i: uint256 in range(71):
        if convert(slice(refused, 4 * i, 4), bytes4) == selector:
            self._fail(CALL_REFUSED)
    entry: uint256 = convert(spender, uint256)
    if spender == empty(address):
        entry = convert(target, uint256)
    ok: bool = False
    answer: Bytes[32] = b""
    ok, answer = raw_call(
        target,
        abi_encode(self, method_id=method_id("balanceOf(address)")),
        max_outsize=32,
        gas=100000,
        is_static_call=True,
        revert_on_failure=False,
    )
    if ok and len(answer) == 32:
        entry |= IS_TOKEN
    self.allowed[target][selector] = entry
    log Allowed(target=target, selector=selector, spender=convert(entry & MAX_UINT160, address))


@external
@nonreentrant
def disallow(target: address, selector: bytes4):
    """
    @notice Take a permission back.
    """
    self._only_owner()
    self.allowed[target][selector] = 0
    log Disallowed(target=target, selector=selector)


@external
@nonreentrant
def set_factory(factory: address, init_code_hash: bytes32):
    """
    @notice Trust the pools a Uniswap V3 factory deploys with this creation code; zero takes it back.
    """
    self._only_owner()
    self.factories[factory] = init_code_hash
    log FactorySet(factory=factory, init_code_hash=init_code_hash)


@external
@nonreentrant
def set_budget(token: address, per_day: uint256, kept: uint256):
    """
    @notice Set how much of a token batches may use up per day, and how much `sweep` leaves.
    """
    self._only_owner()
    self.budgets[token] = per_day
    self.kept[token] = kept
    log BudgetSet(token=token, per_day=per_day, kept=kept)


@external
@nonreentrant
def set_conversion(spend: address, receive: address, per_day: uint256, least: uint256):
    """
    @notice Let operators sell so much of a token per UTC day, all of it for `least` of another or more, a part
        pro rata; zero takes it back. The day begins anew.
    """
    self._only_owner()
    if per_day != 0 and least == 0:
        self._fail(CALL_REFUSED)
    self.conversions[spend][receive] = Conversion(per_day=per_day, least=least, day=0, sold=0)
    log ConversionSet(spend=spend, receive=receive, per_day=per_day, least=least)


@external
@nonreentrant
def set_treasury(treasury: address):
    """
    @notice Set where `sweep` and `withdraw` send.
    """
    self._only_owner()
    if treasury == empty(address) or treasury == self:
        self._fail(ADDRESS_IS_ZERO)
    self.treasury = treasury
    log TreasurySet(treasury=treasury)


@external
@nonreentrant
def set_tip_cap(cap: uint256):
    """
    @notice Set the most native coin one batch may pay to the block's producer.
    """
    self._only_owner()
    self.tip_cap = cap
    log TipCapSet(cap=cap)


@external
@nonreentrant
def set_refill_cap(per_day: uint256):
    """
    @notice Set how much of the profit may refill operators' gas per day.
    """
    self._only_owner()
    self.refill_cap = per_day
    log RefillCapSet(per_day=per_day)


@external
@view
def is_allowed(target: address, selector: bytes4) -> bool:
    """
    @notice Tell whether a call is allowed.
    """
    return self.allowed[target][selector] != 0


@external
@view
def spender_of(target: address, selector: bytes4) -> address:
    """
    @notice Tell who gets the approval of an allowed call; zero when it is not allowed.
    """
    return convert(self.allowed[target][selector] & MAX_UINT160, address)
