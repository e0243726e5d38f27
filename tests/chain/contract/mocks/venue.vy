# pragma version 0.4.3
# pragma evm-version cancun
"""
@notice A lender, lending pool and exchange an owner was tricked into allowing; `mode` says how it behaves.
"""
from ethereum.ercs import IERC20

interface IReceiver:
    def executeOperation(
        asset: address, amount: uint256, premium: uint256, initiator: address, params: Bytes[16384]
    ) -> bool: nonpayable
    def onMorphoFlashLoan(assets: uint256, data: Bytes[16384]): nonpayable
    def receiveFlashLoan(
        tokens: DynArray[address, 2],
        amounts: DynArray[uint256, 2],
        fees: DynArray[uint256, 2],
        data: Bytes[16384],
    ): nonpayable

HONEST: constant(uint256) = 0
SILENT: constant(uint256) = 1
WRONG_INITIATOR: constant(uint256) = 2
FORGED: constant(uint256) = 3
MORE: constant(uint256) = 4
TWICE: constant(uint256) = 5
WRONG_TOKEN: constant(uint256) = 6
PULLS_LESS: constant(uint256) = 7
WRONG_CALLBACK: constant(uint256) = 8
BURNS_GAS: constant(uint256) = 9
LONG_ANSWER: constant(uint256) = 10
HOOKED: constant(uint256) = 11

mode: public(uint256)
premium: public(uint256)
owed: public(uint256)
prey: address
hook_target: address
hook_data: Bytes[16384]
hook_ok: public(bool)
hook_ran: public(uint256)
hook_answer: public(Bytes[4])


@external
@payable
def __default__():
    pass


@external
def set_mode(mode: uint256):
    self.mode = mode


@external
def set_premium(premium: uint256):
    self.premium = premium


@external
def set_owed(owed: uint256):
    self.owed = owed


@external
def set_prey(token: address):
    self.prey = token


@external
def arm(target: address, data: Bytes[16384]):
    self.hook_target = target
    self.hook_data = data


@external
@view
def scaledBalanceOf(user: address) -> uint256:
    return self.owed


@external
def flashLoanSimple(receiver: address, asset: address, amount: uint256, params: Bytes[16384], referral: uint16):
    assert extcall IERC20(asset).transfer(receiver, amount, default_return_value=True)
    self._hook()
    if self.mode == SILENT:
        return
    if self.mode == WRONG_CALLBACK:
        extcall IReceiver(receiver).onMorphoFlashLoan(amount, params)
        return
    token: address = asset
    if self.mode == WRONG_TOKEN:
        token = self
    initiator: address = msg.sender
    if self.mode == WRONG_INITIATOR:
        initiator = self
    sent: uint256 = amount
    if self.mode == MORE:
        sent = amount + 1
    if self.mode == FORGED:
        extcall IReceiver(receiver).executeOperation(token, sent, self.premium, initiator, b"forged")
    else:
        extcall IReceiver(receiver).executeOperation(token, sent, self.premium, initiator, params)
    if self.mode == TWICE:
        extcall IReceiver(receiver).executeOperation(token, sent, self.premium, initiator, params)
    pulled: uint256 = amount + self.premium
    if self.mode == PULLS_LESS:
        pulled = pulled // 2
    assert extcall IERC20(asset).transferFrom(receiver, self, pulled, default_return_value=True)


@external
def flashLoan(token: address, assets: uint256, data: Bytes[16384]):
    assert extcall IERC20(token).transfer(msg.sender, assets, default_return_value=True)
    self._hook()
    if self.mode == SILENT:
        return
    if self.mode == FORGED:
        extcall IReceiver(msg.sender).onMorphoFlashLoan(assets, b"forged")
    elif self.mode == MORE:
        extcall IReceiver(msg.sender).onMorphoFlashLoan(assets + 1, data)
    else:
        extcall IReceiver(msg.sender).onMorphoFlashLoan(assets, data)
    if self.mode == TWICE:
        extcall IReceiver(msg.sender).onMorphoFlashLoan(assets, data)
    assert extcall IERC20(token).transferFrom(msg.sender, self, assets, default_return_value=True)


@external
def liquidationCall(collateral: address, debt: address, user: address, amount: uint256, receive_a_token: bool):
    assert not receive_a_token
    self._hook()
    if self.mode == BURNS_GAS:
        for i: uint256 in range(10000000):
            self.owed = i
    if self.mode == LONG_ANSWER:
        raw_revert(slice(self.hook_data, 0, 8192))
    if self.mode != PULLS_LESS and self.mode != SILENT:
        assert extcall IERC20(debt).transferFrom(msg.sender, self, amount, default_return_value=True)
    held: uint256 = staticcall IERC20(collateral).balanceOf(self)
    assert extcall IERC20(collateral).transfer(msg.sender, min(held, amount), default_return_value=True)


@external
@payable
def exchange(spend: address, receive: address, amount: uint256) -> uint256:
    if self.mode == LONG_ANSWER:
        raw_revert(slice(self.hook_data, 0, 8192))
    if self.mode != SILENT and self.mode != PULLS_LESS and spend != empty(address):
        assert extcall IERC20(spend).transferFrom(msg.sender, self, amount, default_return_value=True)
    self._hook()
    if self.mode == SILENT:
        return 0
    if receive == empty(address):
        send(msg.sender, min(amount, self.balance))
    else:
        held: uint256 = staticcall IERC20(receive).balanceOf(self)
        assert extcall IERC20(receive).transfer(msg.sender, min(held, amount), default_return_value=True)
    return amount


@external
@payable
def liquidate_all(users: DynArray[address, 100]):
    """
    @notice Take all of one token that may be taken, call back, and say of some or all that they owe no more.
    """
    if self.mode == LONG_ANSWER:
        raw_revert(slice(self.hook_data, 0, 8192))
    if self.prey != empty(address) and self.mode != PULLS_LESS:
        taken: uint256 = min(
            staticcall IERC20(self.prey).allowance(msg.sender, self),
            staticcall IERC20(self.prey).balanceOf(msg.sender),
        )
        assert extcall IERC20(self.prey).transferFrom(msg.sender, self, taken, default_return_value=True)
    self._hook()
    if self.mode != SILENT:
        self.owed = 0
    send(msg.sender, min(len(users), self.balance))


@internal
def _hook():
    if self.mode != HOOKED:
        return
    self.mode = HONEST
    ok: bool = False
    answer: Bytes[4] = b""
    ok, answer = raw_call(self.hook_target, self.hook_data, max_outsize=4, revert_on_failure=False)
    self.hook_ran += 1
    self.hook_ok = ok
    self.hook_answer = answer
