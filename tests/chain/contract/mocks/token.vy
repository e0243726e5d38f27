# pragma version 0.4.3
# pragma evm-version cancun
"""
@notice An ERC-20 that may charge on transfer, and may run a call of its maker's choice in the middle of one.
"""
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
totalSupply: public(uint256)
decimals: public(uint8)
fee_bps: public(uint256)
frozen: public(HashMap[address, bool])
hook_target: address
hook_data: Bytes[16384]
hook_ran: public(uint256)
hook_ok: public(bool)
hook_answer: public(Bytes[4])


@deploy
def __init__():
    self.decimals = 18


@external
def mint(to: address, amount: uint256):
    self.balanceOf[to] += amount
    self.totalSupply += amount


@external
def charge(bps: uint256):
    self.fee_bps = bps


@external
def freeze(holder: address):
    self.frozen[holder] = True


@external
def arm(target: address, data: Bytes[16384]):
    self.hook_target = target
    self.hook_data = data


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    self._hook()
    return True


@external
def transfer(to: address, amount: uint256) -> bool:
    self._move(msg.sender, to, amount)
    return True


@external
def transferFrom(holder: address, to: address, amount: uint256) -> bool:
    self.allowance[holder][msg.sender] -= amount
    self._move(holder, to, amount)
    return True


@internal
def _move(holder: address, to: address, amount: uint256):
    assert not self.frozen[holder] and not self.frozen[to], "frozen"
    fee: uint256 = amount * self.fee_bps // 10000
    self.balanceOf[holder] -= amount
    self.balanceOf[to] += amount - fee
    self.totalSupply -= fee
    self._hook()


@internal
def _hook():
    if self.hook_target == empty(address):
        return
    target: address = self.hook_target
    self.hook_target = empty(address)
    ok: bool = False
    answer: Bytes[4] = b""
    ok, answer = raw_call(target, self.hook_data, max_outsize=4, revert_on_failure=False)
    self.hook_ran += 1
    self.hook_ok = ok
    self.hook_answer = answer
