"""The local chain keeps what it promises to the demo, the tests and the benchmarks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from keeper.devnet import Cast, Devnet, RevertedError
from keeper.devnet.calls import calldata
from keeper.devnet.prices import WAD
from keeper.devnet.rpc import Rpc
from keeper.errors import ConfigError

ANSWER_UPDATED = "0x0559884fd3a460db3073b7fc896cc77986f16e378210ded43186175bf646fc5f"
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.chain


def health(net: Devnet, borrower: bytes, market=None) -> float:
    return net.account_data(borrower, market)[5] / WAD


def logs_of_last_block(net: Devnet) -> list[dict]:
    logs: list[dict] = net.rpc("eth_getLogs", {"fromBlock": "latest", "toBlock": "latest"})
    return logs


def test_the_market_is_aave_3_6_with_its_reserves(net) -> None:
    market = net.market
    assert net.call(market.pool, "POOL_REVISION()") == 10
    listed = net.call(market.pool, "getReservesList()", returns=["address[]"])
    assert {bytes.fromhex(text[2:]) for text in listed} == {t.address for t in net.tokens.values()}
    assert sorted({t.decimals for t in net.tokens.values()}) == [6, 8, 18]
    assert {t.source for t in net.tokens.values()} == {"proxy", "ratio", "capped", "decaying"}
    for category, size in ((1, 2), (2, 4)):
        bitmap = net.call(market.pool, "getEModeCategoryCollateralBitmap(uint8)", [category])
        assert bitmap.bit_count() == size
    assert "0x" + net.multicall.hex() == "0xca11bde05977b3631167028862be2a173976ca11"
    assert net.call(net.multicall, "getBlockNumber()") == net.chain.block_number()


def test_pools_agree_with_the_oracle_and_trade_what_is_quoted(net) -> None:
    assert len({pool.fee for pool in net.uniswap.pools}) == 4
    assert net.arbitrage() == 0
    pool = net.uniswap.pools[0]
    amount = 50_000 * 10**6 if pool.token0 == net.tokens["USDC"].address else 20 * WAD
    quoted = net.call(
        net.uniswap.quoter,
        "quoteExactInputSingle((address,address,uint256,uint24,uint160))",
        [(pool.token0, pool.token1, amount, pool.fee, 0)],
        ["uint256", "uint160", "uint32", "uint256"],
    )[0]
    before = net.balance(pool.token1, Cast.TRADER)
    net.trade(pool, pool.token0, amount)
    assert net.balance(pool.token1, Cast.TRADER) - before == quoted


def test_every_seed_token_moves_as_its_kind_does(net) -> None:
    usdt, user, other = net.tokens["USDT"].address, net.users[0].address, net.users[1].address
    net.give("USDT", user, 100)
    sent = {"from": "0x" + user.hex(), "to": "0x" + usdt.hex()}
    sent["data"] = "0x" + calldata("transfer(address,uint256)", [other, 1]).hex()
    assert net.rpc("eth_call", sent, "latest") == "0x"
    net.send(user, usdt, "approve(address,uint256)", [other, 5])
    with pytest.raises(RevertedError, match="approve from non-zero"):
        net.send(user, usdt, "approve(address,uint256)", [other, 6])
    net.give("WETH", user, 3 * WAD)
    assert net.balance(net.tokens["WETH"].address, user) == 3 * WAD


def test_borrowers_have_the_health_asked_for(net) -> None:
    opened = net.borrowers(30, health=(1.04, 1.40), collateral="WBTC", debt="USDT")
    assert len(set(opened)) == 30
    found = [health(net, borrower) for borrower in opened]
    assert min(found) >= 1.0399
    assert max(found) <= 1.4001
    assert max(found) - min(found) > 0.2


@pytest.mark.parametrize(
    "wanted",
    [
        {"kind": "five"},
        {"kind": "emode"},
        {"collateral": "sUSDe", "debt": "DAI", "emode": 2},
        {"collateral": "PT", "debt": "USDC"},
        {"collateral": "wstETH", "debt": "WBTC"},
    ],
    ids=lambda wanted: "-".join(str(value) for value in wanted.values()),
)
@pytest.mark.parametrize("level", [0.97, 1.06])
def test_kinds_of_borrowers_below_and_above_one(net, wanted, level) -> None:
    prices = net.prices()
    for borrower in net.borrowers(3, health=level, **wanted):
        assert health(net, borrower) == pytest.approx(level, abs=2e-6)
    moved = {name: net.price(name) - price for name, price in prices.items() if name != "PT"}
    assert set(moved.values()) == {0}


def test_five_reserve_and_emode_borrowers_are_what_they_say(net) -> None:
    (five,) = net.borrowers(1, kind="five")
    held = [s for s, t in net.tokens.items() if net.balance(t.a_token, five)]
    owed = [s for s, t in net.tokens.items() if net.balance(t.v_token, five)]
    assert (sorted(held), sorted(owed)) == (["WBTC", "WETH", "wstETH"], ["DAI", "USDC"])
    (emode,) = net.borrowers(1, kind="emode")
    assert net.call(net.market.pool, "getUserEMode(address)", [emode]) == 1


def test_a_thousand_borrowers_stay_under_the_gas_cap_and_leave_the_fee(net) -> None:
    first, fee = net.chain.block_number(), net.chain.base_fee()
    opened = net.borrowers(1_000)
    assert len(set(opened)) == 1_000
    debts = net.chain.call_many(
        [(net.tokens["USDC"].v_token, "balanceOf(address)", [b]) for b in opened],
        ["uint256"],
        "latest",
    )
    assert min(debts) > 0
    for number in range(first + 1, net.chain.block_number() + 1):
        block = net.rpc("eth_getBlockByNumber", hex(number), True)
        assert int(block["gasUsed"], 16) <= 60_000_000
        assert all(int(item["gas"], 16) <= 16_777_216 for item in block["transactions"])
    net.mine()
    assert net.chain.base_fee() == fee


def test_the_node_refuses_gas_above_the_cap(net) -> None:
    with pytest.raises(Exception, match=r"(?i)gas"):
        net.send(net.users[0].address, net.users[1].address, "nothing()", gas=16_777_217)


def test_a_price_move_carries_pools_in_one_block(net) -> None:
    height = net.chain.block_number()
    (borrower,) = net.borrowers(1, health=1.05)
    opened = net.chain.block_number()
    net.set_price("WETH", 2_200 * 10**8)
    assert net.chain.block_number() == opened + 1 > height + 1
    assert net.price("WETH") == 2_200 * 10**8
    assert net.price("wstETH") == 2_640 * 10**8
    assert net.arbitrage() == 0
    assert health(net, borrower) == pytest.approx(1.05 * 0.88, abs=1e-5)
    net.set_price("WETH", 2_100 * 10**8, move_pools=False)
    assert net.arbitrage() > 3


def test_two_prices_share_a_block(net) -> None:
    height = net.chain.block_number()
    net.set_prices({"WETH": 2_400 * 10**8, "WBTC": 55_000 * 10**8}, move_pools=False)
    assert net.chain.block_number() == height + 1
    posted = [log for log in logs_of_last_block(net) if log["topics"][0] == ANSWER_UPDATED]
    assert [int(log["topics"][1], 16) for log in posted] == [2_400 * 10**8, 55_000 * 10**8]


@pytest.mark.parametrize(
    ("symbol", "price"),
    [("wstETH", 2_950_00000000), ("sUSDe", 1_10000000), ("PT", 93000000)],
)
def test_silent_sources_move_without_an_event(net, symbol, price) -> None:
    net.set_price(symbol, price, move_pools=False)
    assert net.price(symbol) == pytest.approx(price, abs=1)
    assert logs_of_last_block(net) == []


def test_the_capped_source_holds_its_ceiling_and_the_decaying_one_rises(net) -> None:
    before = net.prices()
    net.set_price("sUSDe", 2 * before["sUSDe"], move_pools=False)
    assert before["sUSDe"] <= net.price("sUSDe") <= before["sUSDe"] + 1_000
    net.mine(seconds=30 * 86_400)
    assert before["PT"] + 700_000 < net.price("PT") < 10**8
    net.mine(seconds=365 * 86_400)
    assert net.price("PT") == net.price("USDC")


def test_a_new_aggregator_begins_a_phase(net) -> None:
    proxy = net.tokens["WETH"].feed
    old = net.call(proxy, "aggregator()", returns=["address"])
    new = net.rotate_aggregator("WETH")
    assert net.call(proxy, "phaseId()", returns=["uint16"]) == 2
    assert bytes.fromhex(net.call(proxy, "aggregator()", returns=["address"])[2:]) == new
    assert bytes.fromhex(old[2:]) != new
    assert net.price("WETH") == 2_500 * 10**8
    net.set_price("WETH", 2_450 * 10**8, move_pools=False)
    (log,) = logs_of_last_block(net)
    assert bytes.fromhex(log["address"][2:]) == new
    round_id, answer, *_ = net.call(
        proxy, "latestRoundData()", returns=["uint80", "int256", "uint256", "uint256", "uint80"]
    )
    assert (round_id, answer) == ((2 << 64) + 2, 2_450 * 10**8)


def test_prices_follow_a_path_block_by_block(net) -> None:
    start = net.chain.block_number()
    path = [2_450 * 10**8, 2_300 * 10**8, 2_350 * 10**8]
    seen = [(height - start, net.price("WETH")) for height in net.price_path("WETH", path)]
    assert seen == [(1, path[0]), (2, path[1]), (3, path[2])]


def test_the_rival_liquidates(net) -> None:
    (borrower,) = net.borrowers(1, health=0.9)
    before = net.account_data(borrower)[1]
    net.liquidate_as_rival(borrower, "WETH", "USDC")
    assert net.account_data(borrower)[1] < before // 2
    (healthy,) = net.borrowers(1, health=1.2)
    with pytest.raises(RevertedError, match="930bb771"):
        net.liquidate_as_rival(healthy, "WETH", "USDC")


def test_interest_runs_on_every_borrowable_reserve(net) -> None:
    tokens = [t for s, t in net.tokens.items() if s not in {"sUSDe", "PT"}]

    def indexes() -> list[int]:
        name = "getReserveNormalizedVariableDebt(address)"
        return [net.call(net.market.pool, name, [token.address]) for token in tokens]

    before = indexes()
    net.mine(seconds=86_400)
    assert all(new > old for new, old in zip(indexes(), before, strict=True))


def test_time_is_stepped(net) -> None:
    start = net.chain.timestamp()
    net.mine()
    assert net.chain.timestamp() == start + 12
    net.mine(2, seconds=100)
    assert net.chain.timestamp() == start + 212
    time.sleep(1.1)
    net.mine()
    assert net.chain.timestamp() == start + 224


def test_a_snapshot_brings_back_state_height_time_and_pool(net) -> None:
    height, now, weth = net.chain.block_number(), net.chain.timestamp(), net.price("WETH")
    before = net.snapshot()
    net.set_price("WETH", 2_000 * 10**8)
    market = net.deploy_market()
    net.borrowers(1, market=market)
    net.put(net.users[0].address, net.users[1].address, "nothing()")
    net.revert(before)
    assert (net.chain.block_number(), net.chain.timestamp()) == (height, now)
    assert net.price("WETH") == weth
    assert net.rpc("txpool_status")["pending"] == "0x0"
    net.mine()
    assert net.chain.timestamp() == now + 12
    assert net.rpc("eth_getCode", "0x" + market.pool.hex(), "latest") == "0x"
    assert {pool.token0 for pool in net.uniswap.pools} <= {t.address for t in net.tokens.values()}


def test_automine_makes_a_block_for_each_transaction(net) -> None:
    user, weth, height = net.users[0].address, net.tokens["WETH"].address, net.chain.block_number()
    net.automine(True)
    for amount in (3, 4):
        net.send(user, weth, "deposit()", value=amount)
    net.set_prices({"WETH": 2_400 * 10**8, "WBTC": 59_000 * 10**8})
    net.automine(False)
    assert net.balance(weth, user) == 7
    assert net.chain.block_number() == height + 3


def test_one_block_checks_what_it_holds(net) -> None:
    usdc, user = net.tokens["USDC"].address, net.users[0].address
    height = net.chain.block_number()

    def try_both() -> None:
        with net.one_block():
            net.put(user, usdc, "mint(address,uint256)", [user, 1])
            net.put(user, usdc, "approve(address,uint256)", [user, 1])

    with pytest.raises(RevertedError, match="not owner"):
        try_both()
    assert net.chain.block_number() == height + 1


def test_another_market_differs(net) -> None:
    market = net.deploy_market()
    assert market.pool != net.market.pool
    assert net.call(market.pool, "getReservesCount()") == 4
    assert net.call(market.pool, "FLASHLOAN_PREMIUM_TOTAL()", returns=["uint128"]) == 9
    (borrower,) = net.borrowers(1, collateral="LINK", health=0.95, market=market)
    assert health(net, borrower, market) == pytest.approx(0.95, abs=2e-6)
    assert net.account_data(borrower)[1] == 0
    net.liquidate_as_rival(borrower, "LINK", "USDC", market=market)
    net.set_prices({"LINK": 12 * 10**8}, market=market)
    assert net.arbitrage(market) == 0


def test_borrowers_are_the_same_for_the_same_seed(net) -> None:
    before = net.snapshot()
    once = [(b, net.account_data(b)) for b in net.borrowers(5, seed=3)]
    net.revert(before)
    again = [(b, net.account_data(b)) for b in net.borrowers(5, seed=3)]
    other = net.borrowers(5, seed=4)
    assert once == again
    assert {b for b, _ in once}.isdisjoint(other)


def test_a_second_start_is_quick_and_the_same(devnet) -> None:
    started = time.perf_counter()
    with Devnet.start() as second:
        seconds = time.perf_counter() - started
        assert second.market == devnet.market
        first_block = second.rpc("eth_getBlockByNumber", "0x1", False)["hash"]
        assert first_block == devnet.rpc("eth_getBlockByNumber", "0x1", False)["hash"]
        print(f"second start {seconds:.2f} s")
    assert seconds < 3


def test_a_taken_port_is_one_line(devnet) -> None:
    port = int(devnet.rpc_url.rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match=f"port {port} is in use"):
        Devnet.start(port=port)


HOLD = """
import os, sys, time
from keeper.devnet import Devnet
net = Devnet.start()
print(net.process_group, flush=True)
time.sleep(60)
"""


def living(group: int) -> list[str]:
    """Return the names of the processes of a group that are not zombies."""
    names = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = path.read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        state, _, process_group = rest.split()[:3]
        if int(process_group) == group and state != "Z":
            names.append(name)
    return names


def ends(group: int, within: float = 5.0) -> bool:
    deadline = time.monotonic() + within
    while living(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("ending", ["return", "SIGKILL", "SIGTERM", "SIGINT"])
def test_the_node_ends_with_the_process_that_started_it(devnet, ending) -> None:
    source = HOLD if ending != "return" else HOLD.replace("time.sleep(60)", "")
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, stdout=PIPE, stderr=DEVNULL, cwd=ROOT, text=True) as owner:
        assert owner.stdout
        group = int(owner.stdout.readline())
        if ending != "return":
            assert "anvil" in living(group)
            os.kill(owner.pid, getattr(signal, ending))
        owner.wait(timeout=10)
    assert ends(group)


def test_the_module_holds_and_prints_where_it_listens(devnet) -> None:
    command = [sys.executable, "-m", "keeper.devnet", "--port", "0", "--borrowers", "2"]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, cwd=ROOT, text=True) as holder:
        assert holder.stdout
        name, url = holder.stdout.readline().split()
        assert name == "http"
        rpc = Rpc("127.0.0.1", int(url.rsplit(":", 1)[1]))
        assert rpc("eth_chainId") == "0x7a69"
        rpc.close()
        printed = dict(holder.stdout.readline().rsplit(maxsplit=1) for _ in range(8))
        assert printed["borrowers"] == "2"
        known = (devnet.market.pool, devnet.uniswap.factory, devnet.tokens["WETH"].address)
        assert [printed[name].lower() for name in ("pool", "factory", "wrapped native")] == [
            "0x" + address.hex() for address in known
        ]
        holder.send_signal(signal.SIGINT)
        assert holder.wait(timeout=10) == 0
