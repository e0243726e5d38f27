"""Gas of real liquidations on the local chain, next to a bare liquidationCall."""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from keeper.devnet import Cast, Devnet
from keeper.planning.encoding import Batch, Fund, FundKind, Swap
from keeper.planning.gas import FUND, TURN, group_gas, liquidation_gas, overhead_gas
from keeper.types import FlashKind
from keeper.units import Address
from tests.chain.contract.stage import Stage, deploy

LENDERS = {
    FundKind.INVENTORY: FlashKind.INVENTORY,
    FundKind.AAVE: FlashKind.AAVE,
    FundKind.UNISWAP: FlashKind.UNISWAP_V3,
    FundKind.MORPHO: FlashKind.MORPHO,
    FundKind.BALANCER: FlashKind.BALANCER,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: gas of a transaction that did `items` liquidations (or skipped them)."""

    name: str
    items: int
    gas: int

    @property
    def each(self) -> int:
        return self.gas // self.items


@contextmanager
def put_back(net: Devnet) -> Iterator[None]:
    """Undo what the body did to the chain."""
    shot = net.snapshot()
    try:
        yield
    finally:
        net.revert(shot)


def crash(stage: Stage, n: int, kind: str = "plain") -> list[bytes]:
    """Open borrowers of 20,000 USD and let every collateral fall by a tenth in one block."""
    net = stage.net
    opened = net.borrowers(n, health=1.05, size_usd=20_000, kind=kind, seed=7)
    fallen = ("WETH", "WBTC") if kind == "five" else ("WETH",)
    net.set_prices({symbol: net.price(symbol) * 9 // 10 for symbol in fallen})
    return opened


def one_sale(stage: Stage, borrowers: Sequence[bytes], fund: FundKind = FundKind.AAVE) -> Batch:
    """Plan one group over all borrowers: half of each one's USDC debt, one sale."""
    items = [stage.item(b, "USDC", stage.debt("USDC", b) // 2) for b in borrowers]
    batch = stage.batch(stage.group(items))
    return _funded(stage, batch, fund)


def sale_each(stage: Stage, borrowers: Sequence[bytes]) -> Batch:
    """Plan one group, and so one sale, for each borrower."""
    halves = [(b, stage.debt("USDC", b) // 2) for b in borrowers]
    return stage.batch(*(stage.group([stage.item(b, "USDC", half)]) for b, half in halves))


def _funded(stage: Stage, batch: Batch, kind: FundKind) -> Batch:
    if kind is FundKind.AAVE:
        return batch
    (loan,) = batch.funds
    usdc, weth = stage.token("USDC"), stage.token("WETH")
    fees = sorted(p.fee for p in stage.net.uniswap.pools if {p.token0, p.token1} == {usdc, weth})
    factory = Address(stage.net.uniswap.factory)
    fund = Fund(FundKind.UNISWAP, usdc, loan.amount, factory, weth, fees[-1])
    if kind is FundKind.INVENTORY:
        stage.net.give("USDC", stage.address, loan.amount)
        fund = Fund(FundKind.INVENTORY, usdc, loan.amount)
    return Batch(batch.deadline, batch.tokens, batch.groups, (fund,))


def measured(stage: Stage, name: str, batch: Batch, alive: bool = True) -> Row:
    """Send a batch and return its gas; raises when an item did other than it should."""
    result = stage.simulate(batch)
    wrong = [i for i, item in enumerate(result.items) if item.ok != alive]
    if wrong:
        raise RuntimeError(f"{name}: items {wrong} went the other way: {result}")
    return Row(name, len(result.items), stage.run(batch).gas_used)


def bare(stage: Stage, kind: str = "plain") -> Row:
    """Return the gas of a liquidationCall from an account that holds the funds."""
    net = stage.net
    with put_back(net):
        (borrower,) = crash(stage, 1, kind)
        args = [
            stage.token("WETH"),
            stage.token("USDC"),
            borrower,
            stage.debt("USDC", borrower) // 2,
            False,
        ]
        signature = "liquidationCall(address,address,address,uint256,bool)"
        mined = net.send(Cast.RIVAL, stage.market.pool, signature, args)
        return Row(f"bare liquidationCall, {kind}", 1, mined.gas_used)


def rows(net: Devnet) -> list[Row]:
    """Measure everything; the chain is left as it was."""
    with put_back(net):
        stage = deploy(net)
        found = [bare(stage), bare(stage, "five")]
        for kind in ("plain", "five"):
            for n in (1, 5, 20):
                with put_back(net):
                    batch = one_sale(stage, crash(stage, n, kind))
                    found.append(measured(stage, f"one sale, {kind}", batch))
        for n in (5, 20):
            with put_back(net):
                found.append(measured(stage, "one sale each", sale_each(stage, crash(stage, n))))
        for fund in (FundKind.UNISWAP, FundKind.INVENTORY):
            with put_back(net):
                batch = one_sale(stage, crash(stage, 20), fund)
                found.append(measured(stage, f"one sale, funded by {fund.name.lower()}", batch))
        with put_back(net):
            borrowers = crash(stage, 20)
            batch = one_sale(stage, borrowers)
            for item in batch.groups[0].items:
                net.liquidate_as_rival(item.borrower, "WETH", "USDC", item.repay)
            found.append(measured(stage, "all taken by a rival", batch, alive=False))
        return found


def figures(net: Devnet) -> dict[str, int]:
    """Return gas per liquidation by the names a benchmark prints."""
    by = {(row.name, row.items): row.each for row in rows(net)}
    named = {f"gas_per_liquidation_{n}": by["one sale, plain", n] for n in (1, 5, 20)}
    named |= {f"gas_per_liquidation_five_reserves_{n}": by["one sale, five", n] for n in (1, 5, 20)}
    named |= {f"gas_per_liquidation_sale_each_{n}": by["one sale each", n] for n in (5, 20)}
    return named | {
        "gas_bare_liquidation_call": by["bare liquidationCall, plain", 1],
        "gas_bare_liquidation_call_five_reserves": by["bare liquidationCall, five", 1],
        "gas_per_item_all_taken_20": by["all taken by a rival", 20],
        "gas_per_liquidation_uniswap_flash_20": by["one sale, funded by uniswap", 20],
        "gas_per_liquidation_inventory_20": by["one sale, funded by inventory", 20],
    }


def estimate(batch: Batch, reserves: int | Sequence[int] = 2) -> int:
    """Return what planning's model gives for a batch of swaps.

    `reserves` is how many reserves a borrower uses, for all or for each item in the batch's order.
    """
    items = sum(len(group.items) for group in batch.groups)
    used = [reserves] * items if isinstance(reserves, int) else reserves
    pools = {
        (*sorted((action.spend, action.receive)), action.fee)
        for group in batch.groups
        for action in group.actions
        if isinstance(action, Swap)
    }
    return (
        overhead_gas(max(used), len(pools))
        + sum(map(liquidation_gas, used))
        + sum(group_gas(len(group.actions)) for group in batch.groups)
        + sum(FUND[LENDERS[fund.kind]] + TURN * fund.apart for fund in batch.funds)
    )


def main() -> None:
    """Print the measurements as JSON."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with Devnet.start() as net:
        print(json.dumps(figures(net), indent=1))


if __name__ == "__main__":
    main()
