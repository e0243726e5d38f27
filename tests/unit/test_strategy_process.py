"""What a program is told once for each head: the market, with a keeper's whole record of bids."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from keeper import Bid, BidOutcome, BidRecord, Bps, View
from strategies import process
from strategies.process import Process
from tests.chaos.test_strategy_process import QUOTE, loop, seen

CROWD = 200
RECORD = BidRecord(tuple(BidOutcome(Bps(place), won=place % 2 == 0) for place in range(256)))


def test_a_crowd_s_bids_do_not_write_the_market_down_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "program.py"
    answer = """bid = {"priority_fee": len(request["market"]["bid_record"]["outcomes"]),
            "max_fee": request["market"]["next_block"]["base_fee"], "deadline": 3}
        say(request, take=[], bid=bid)"""
    path.write_text(loop("say(request)", answer))
    written: list[View] = []
    market = process._market

    def noted(view: View) -> process.Market:
        written.append(view)
        return market(view)

    monkeypatch.setattr(process, "_market", noted)
    strategy = Process(Process.Config(command=(sys.executable, "-S", str(path))))
    strategy.open("test")
    now = replace(seen(), bid_record=RECORD)
    later = replace(now, next_block=replace(now.next_block, base_fee=77))
    try:
        for view in (now, later):
            assert list(strategy.select(view)) == []
            for _ in range(CROWD):
                bid = strategy.bid(QUOTE, view)
                assert isinstance(bid, Bid)
                assert (bid.priority_fee, bid.max_fee) == (256, view.next_block.base_fee)
    finally:
        strategy.close()
    assert len(written) == 2
    assert written[0] is now
    assert written[1] is later
    assert len(json.dumps(process.encode(market(now)))) > 10_000
