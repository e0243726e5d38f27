# pragma version 0.4.3
# pragma evm-version cancun
# @title Price aggregator: its owner posts answers, each a new round with an AnswerUpdated event
# @license MIT

event AnswerUpdated:
    current: indexed(int256)
    roundId: indexed(uint256)
    updatedAt: uint256

struct Round:
    answer: int256
    updated_at: uint256

decimals: public(immutable(uint8))
description: public(String[32])
owner: public(immutable(address))
latestRound: public(uint256)
rounds: HashMap[uint256, Round]


@deploy
def __init__(description_: String[32], decimals_: uint8, answer: int256):
    decimals = decimals_
    owner = msg.sender
    self.description = description_
    self._post(answer)


@external
def set(answer: int256):
    assert msg.sender == owner, "not owner"
    self._post(answer)


@internal
def _post(answer: int256):
    round: uint256 = self.latestRound + 1
    self.latestRound = round
    self.rounds[round] = Round(answer=answer, updated_at=block.timestamp)
    log AnswerUpdated(current=answer, roundId=round, updatedAt=block.timestamp)


@external
@view
def latestAnswer() -> int256:
    return self.rounds[self.latestRound].answer


@external
@view
def latestTimestamp() -> uint256:
    return self.rounds[self.latestRound].updated_at


@external
@view
def latestRoundData() -> (uint80, int256, uint256, uint256, uint80):
    return self._round(self.latestRound)


@external
@view
def getRoundData(round: uint80) -> (uint80, int256, uint256, uint256, uint80):
    return self._round(convert(round, uint256))


@internal
@view
def _round(round: uint256) -> (uint80, int256, uint256, uint256, uint80):
    data: Round = self.rounds[round]
    assert data.updated_at != 0, "No data present"
    id: uint80 = convert(round, uint80)
    return id, data.answer, data.updated_at, data.updated_at, id
