"""Several lending protocols on one chain, taken through one crash together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keeper.devnet.arbitrage import ARBITRAGE_FEE
from keeper.devnet.chain import BLOCK_SECONDS, GWEI
from keeper.devnet.devnet import Devnet
from keeper.devnet.lending.lending import Lending
from keeper.devnet.lending.maker import MakerLending
from keeper.devnet.scenario import CRASH, STEPS


@dataclass(frozen=True, slots=True)
class Street:
    """The protocols of one story. Every block of it moves all their prices together."""

    net: Devnet
    lending: Sequence[Lending]

    def gather(self, count: int, seed: int) -> int:
        """Open `count` borrowers, as many of each protocol as can be; return how many there are.

        Auctions are few: the stand-in runs no more at once. The others make up for them.
        """
        # none of them has borrowers yet: those that take few come first
        ordered = sorted(self.lending, key=lambda each: not isinstance(each, MakerLending))
        left = count
        for place, each in enumerate(ordered):
            each.open(left // (len(ordered) - place), seed)
            left -= len(each.accounts)
        self.net.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        self.beat()
        return count - left

    def crash(self) -> Iterator[dict[str, int]]:
        """Move the prices one step per block, pools included; yield the new prices after each."""
        prices = self.net.prices()
        for step in STEPS:
            moved = {symbol: prices[symbol] * step // 10_000 for symbol in CRASH}
            prices |= moved
            with self.net.one_block():
                self.net.put_prices(moved)
                for each in self.lending:
                    each.put_prices(prices, ARBITRAGE_FEE)
            yield moved

    def beat(self, seconds: int = BLOCK_SECONDS) -> None:
        """Make a block in which prices are told again, and pools are brought back to them at its end."""
        prices = self.net.prices()
        last = self.net.chain.base_fee() * 5 // 4
        if seconds != BLOCK_SECONDS:
            self.net.rpc("evm_setNextBlockTimestamp", self.net.chain.timestamp() + seconds)
        with self.net.one_block():
            self.net.put_prices({}, move_pools=len(self.lending) > 1, max_fee=last)
            for each in self.lending:
                each.put_prices(prices, last)

    def rewards(self) -> dict[tuple[str, bytes], int]:
        """Return whom any contract lets anyone liquidate now, by market, and the most it brings.

        USD with 8 decimals.
        """
        return {
            (each.market, who): usd for each in self.lending for who, usd in each.rewards().items()
        }

    def waiting(self) -> list[tuple[str, bytes]]:
        """Return liquidations that go on and of which time makes the price, by market."""
        return [(each.market, who) for each in self.lending for who in each.waiting()]

    def tokens(self) -> list[bytes]:
        """Return every token that a liquidation may bring."""
        listed = [token.address for token in self.net.tokens.values()]
        return [*listed, *(token for each in self.lending for token in each.own_tokens())]
