# pragma version 0.4.3
# pragma evm-version cancun
# @title Price proxy with a swappable aggregator, shaped like EACAggregatorProxy
# @notice Every swap begins a phase; round ids carry the phase in their upper bits
# @license MIT

interface Aggregator:
    def decimals() -> uint8: view
    def description() -> String[32]: view
    def latestAnswer() -> int256: view
    def latestTimestamp() -> uint256: view
    def latestRound() -> uint256: view
    def latestRoundData() -> (uint80, int256, uint256, uint256, uint80): view

owner: public(immutable(address))
aggregator: public(Aggregator)
phaseId: public(uint16)
phaseAggregators: public(HashMap[uint16, address])


@deploy
def __init__(aggregator: address):
    owner = msg.sender
    self._set_aggregator(aggregator)


@external
def setAggregator(aggregator: address):
    assert msg.sender == owner, "not owner"
    self._set_aggregator(aggregator)


@internal
def _set_aggregator(aggregator: address):
    self.phaseId += 1
    self.phaseAggregators[self.phaseId] = aggregator
    self.aggregator = Aggregator(aggregator)


@external
@view
def decimals() -> uint8:
    return staticcall self.aggregator.decimals()


@external
@view
def description() -> String[32]:
    return staticcall self.aggregator.description()


@external
@view
def latestAnswer() -> int256:
    return staticcall self.aggregator.latestAnswer()


@external
@view
def latestTimestamp() -> uint256:
    return staticcall self.aggregator.latestTimestamp()


@external
@view
def latestRound() -> uint256:
    return convert(self._in_phase(convert(staticcall self.aggregator.latestRound(), uint80)), uint256)


@external
@view
def latestRoundData() -> (uint80, int256, uint256, uint256, uint80):
    round: uint80 = 0
    answer: int256 = 0
    started: uint256 = 0
    updated: uint256 = 0
    answered: uint80 = 0
    round, answer, started, updated, answered = staticcall self.aggregator.latestRoundData()
    return self._in_phase(round), answer, started, updated, self._in_phase(answered)


@internal
@view
def _in_phase(round: uint80) -> uint80:
    return convert(convert(self.phaseId, uint256) * 2**64 + convert(round, uint256), uint80)
