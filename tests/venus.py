"""Follow Venus on the local chain by its logs alone, and hold what is followed to the contracts."""

from dataclasses import replace
from typing import Any

from keeper.chain.reader import ChainReader
from keeper.devnet import Devnet
from keeper.devnet.venus import Venus
from keeper.protocols.compound_v2 import CompoundV2
from keeper.protocols.compound_v2.ledger import Ledger
from keeper.protocols.compound_v2.valuation import liquidity, parts
from keeper.types import Drift, Log, NextBlock, Position, Prices
from keeper.units import Address, to_hex
from tests.aave import Block, DirectRpc, Following


class FollowingVenus(Following):
    """Venus, loaded at a head and then kept by folding each block's logs."""

    market: CompoundV2  # type: ignore[assignment]

    def __init__(self, net: Devnet, venus: Venus) -> None:
        self.net = net
        self.venus = venus
        self.reader = ChainReader(DirectRpc(net))
        self.head = self.run(self.reader.head())
        self.blocks: list[Block] = []
        self.prices = Prices("venus", 1, {})
        config = CompoundV2.Config.model_validate({"comptroller": to_hex(venus.comptroller)})
        self.market = self.run(CompoundV2.discover(self.reader, "venus", config, self.head))
        self.run(self.market.bootstrap(self.reader, self.head))
        self.run(self.market.oracle.bootstrap(self.reader, self.head))
        self.observe()

    @property
    def ledger(self) -> Ledger:  # type: ignore[override]
        return self.market._ledger

    def follow(self) -> list[Log]:
        """Fold up to the chain's head; who minted VAI is read by the second observation."""
        folded = super().follow()
        if self.ledger.unread:
            self.observe()
        return folded

    def later(self, blocks: int = 1) -> NextBlock:
        """Return the block so many after the head."""
        return replace(self.head.next_block(12), number=self.head.number + blocks)

    def at_next(self, borrower: bytes, blocks: int = 1) -> Position:
        """Return a position in a block after the head."""
        position = self.market.position(Address(borrower), self.prices, self.later(blocks))
        assert position is not None
        return position

    def stored(self, borrower: bytes) -> tuple[int, int]:
        """Return liquidity and shortfall as stored, which is what the comptroller tells."""
        held = parts(self.ledger, Address(borrower), self.prices, None)
        assert held is not None
        return apart(*liquidity(held))

    def accrued(self, borrower: bytes, blocks: int = 1) -> tuple[int, int]:
        """Return liquidity and shortfall once every cToken stored its interest in a later block."""
        held = parts(self.ledger, Address(borrower), self.prices, self.head.number + blocks)
        assert held is not None
        return apart(*liquidity(held, {part.id for part in held}))

    def rates(self) -> list[int]:
        """Return every vToken's exchange rate as stored."""
        return [each.exchange_rate(each.stored) for each in self.ledger.ctokens]

    def chain_rates(self) -> list[int]:
        """Return every vToken's exchange rate as the contracts tell it."""
        asked = [(each.address, "exchangeRateStored()", ()) for each in self.ledger.ctokens]
        return self.net.chain.call_many(asked, ["uint256"], "latest")

    def drifts(self) -> list[Drift]:
        """Compare every cToken and every holder with the chain."""
        return self.run(self.market.audit(self.reader, self.head, 10_000, 0))


def apart(collateral: int, debt: int) -> tuple[int, int]:
    """Return what is left over, and what is short."""
    return max(collateral - debt, 0), max(debt - collateral, 0)


def state(ledger: Ledger) -> dict[str, Any]:
    """Return all that folding keeps, without what each head reads anew; a copy."""
    return {
        "ctokens": [
            replace(
                each,
                balances=each.balances.freeze(),
                debts=each.debts.freeze(),
                terms=dict(each.terms),
                cash=None,
                supply=None,
                reserves=None,
                rate=None,
            )
            for each in ledger.ctokens
        ],
        "entered": dict(ledger.entered),
        "owing": dict(ledger.owing),
        "chosen": dict(ledger.chosen),
        "pools": dict(ledger.pools),
        "plain": (ledger.close_factor, ledger.redeem_fee, ledger.treasury_share, ledger.is_paused),
        "sets": (set(ledger.restricted), dict(ledger.minters)),
        "stopped": ledger.stopped,
    }
