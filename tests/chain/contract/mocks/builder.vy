# pragma version 0.4.3
# pragma evm-version cancun
"""
@notice A block producer that calls back when it is paid.
"""
target: public(address)
data: Bytes[16384]
answered: public(uint256)
ok: public(bool)


@external
def arm(target: address, data: Bytes[16384]):
    self.target = target
    self.data = data


@external
@payable
def __default__():
    if self.target != empty(address):
        self.answered += 1
        self.ok = raw_call(self.target, self.data, revert_on_failure=False)
