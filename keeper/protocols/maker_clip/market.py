"""One Clipper's auctions, and the urns behind it, as the keeper follows them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from keeper.address import EvmAddress
from keeper.chain.words import selector
from keeper.errors import InvariantError
from keeper.ports import LegArrays, LegRow, Oracle, Pages, PriceSource, Reader, Terms
from keeper.protocols.maker_clip import notes, rules, screening, snapshot
from keeper.protocols.maker_clip.audit import audit
from keeper.protocols.maker_clip.bootstrap import Deployment, find, load
from keeper.protocols.maker_clip.feed import SPOT, collateral_feed
from keeper.protocols.maker_clip.ledger import TOPICS, Kind, Ledger
from keeper.protocols.maker_clip.terms import ClipTerms, RewardTerms, TakeTerms, Way
from keeper.protocols.maker_clip.valuation import Judge, Timing, left
from keeper.types import (
    AllowedCall,
    Backstop,
    Call,
    CallLiquidation,
    CallResult,
    Drift,
    FlashSource,
    Head,
    Log,
    NextBlock,
    Permission,
    Position,
    Prices,
    Reason,
    Skip,
    Token,
    Undo,
    Watch,
)
from keeper.units import RAY, USD, WAD, Address, at_multiple

CALLS = {
    Way.TAKE: selector("take(uint256,uint256)"),
    Way.BARK: selector("bark(address)"),
    Way.REDO: selector("redo(uint256)"),
}
"""What is called of the auctioneer (`contracts/auctioneer.vy`)."""


class MakerClip:
    """Follow one Clipper: each running auction is a position, and each urn behind it.

    An auction is taken like a debt is repaid, with money that is borrowed; a bark and a redo repay
    nothing and are rewarded. When to take is the market's business, not a strategy's: an auction is
    offered at the moment at which waiting is worth less than the risk of losing it.
    """

    protocol: str = "maker-clip"

    class Config(BaseModel):
        """Which auctions, through whom, and what waiting for a better price risks."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        clip: EvmAddress
        auctioneer: EvmAddress
        """Our contract that calls the Clipper and the Dog (`keeper contract deploy-auctioneer`)."""
        feed: EvmAddress
        """An aggregator of the collateral's price in dollars, 8 decimals."""
        survival_percent: Annotated[int, Field(ge=0, le=100)] = 50
        """How likely an auction that pays is still there one price later."""
        slippage_bps: Annotated[int, Field(ge=0, le=5_000)] = 100
        """What a sale is expected to lose against the feed, as far as its moment goes."""
        cost_usd: Annotated[int, Field(ge=0)] = 20
        """What a take costs in gas, as far as its moment goes."""

    def __init__(
        self,
        market: str,
        config: Config,
        deployment: Deployment,
        oracle: Oracle,
        first_block: int = 0,
    ) -> None:
        self.market = market
        self.oracle = oracle
        self._contracts = deployment.contracts
        self._calculator = deployment.calculator
        self._collateral = deployment.collateral
        self._debt = deployment.debt
        self._first_block = first_block
        self._timing = Timing(
            config.slippage_bps, config.cost_usd * WAD, config.survival_percent * 10_000
        )
        self._ledger = self._empty()
        self._figures: rules.Figures | None = None

    @classmethod
    async def discover(
        cls, reader: Reader, market: str, config: Config, head: Head, first_block: int = 0
    ) -> Self:
        """Find a Clipper; raise `ConfigError` when there is none.

        `first_block` is any block up to the first urn of its collateral; logs are read from it.
        """
        clip, auctioneer = Address(config.clip), Address(config.auctioneer)
        found = await find(reader, clip, auctioneer, head)
        feed = Address(config.feed)
        oracle = collateral_feed(market, feed, found.collateral.address, found.debt.address)
        return cls(market, config, found, oracle, first_block)

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Load every running auction and every urn as of exactly this head."""
        self._ledger = await load(reader, self.market, self._contracts, head, self._first_block)
        self.observe(await reader.multicall(self.calls(), head.hash), head)

    async def sources(self, reader: Reader, head: Head) -> Sequence[PriceSource]:
        """Return the feed of the collateral."""
        del reader, head
        (call,) = self.oracle.calls()
        return (PriceSource(self._collateral, call, USD, call.target),)

    @property
    def stopped(self) -> str:
        """Return nothing: what the contracts refuse is refused position by position."""
        return ""

    def watch(self) -> Watch:
        """Return the Clipper, whose events change an auction, and the Vat, whose notes change urns."""
        contracts = self._contracts
        return Watch(frozenset({contracts.clip, contracts.vat}), TOPICS | notes.TOPICS)

    def fold(self, log: Log) -> Undo | None:
        """Apply one log; raise `InvariantError` for this market when it cannot be right."""
        return self._ledger.fold(log)

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare the figures and random samples of auctions and urns with the chain."""
        return await audit(reader, self._ledger, head, sample, seed)

    def snapshot(self) -> Pages:
        """Freeze auctions and urns and return what encodes them."""
        return snapshot.pages(self._ledger)

    def restore(self, pages: Iterable[bytes]) -> None:
        """Replace the ledger by a snapshot's; raise `InvariantError` when it cannot be read."""
        self._ledger = snapshot.restored(pages, self._empty())

    def calls(self) -> Sequence[Call]:
        """Return reads of the figures that governance and other auctions change without a log here."""
        return rules.figure_calls(self._contracts, self._calculator)

    def observe(self, results: Sequence[CallResult], head: Head) -> None:
        """Take the answers to `calls`; a calculator that was replaced is asked from the next head on."""
        del head
        named = rules.calculator_named(results)
        if named is None or named != self._calculator:
            self._figures = None
            self._calculator = named or self._calculator
            return
        self._figures = rules.figures_of(results, self._contracts)

    def tokens(self) -> Mapping[Address, Token]:
        """Return the collateral and the stablecoin."""
        return {token.address: token for token in (self._collateral, self._debt)}

    def borrowers(self) -> int:
        """Return how many auctions run and how many urns are in debt."""
        owing = sum(1 for urn in self._ledger.urns.values() if urn.art)
        return len(self._ledger.sales) + owing

    def changed(self) -> set[Address]:
        """Return and forget the names of what changed."""
        changed, self._ledger.touched = self._ledger.touched, set()
        return changed

    def legs(self, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
        """Return an auction's or an urn's legs."""
        return screening.legs(self._ledger, borrower)

    def all_legs(self) -> Callable[[], LegArrays]:
        """Freeze what there is and return what gathers the legs."""
        self._ledger.touched = set()
        return screening.all_legs(self._ledger)

    def factors(
        self, prices: Prices, at: NextBlock
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what a unit counts for in the Vat, whose own prices decide."""
        del at
        return screening.factors(self._kind(prices))

    def moved(self, prices: Prices, multiples: Mapping[Address, float]) -> Prices:
        """Return prices beside which the Vat counts the collateral as it will: by the same multiple."""
        values = {
            asset: at_multiple(price, multiples.get(asset, 1.0))
            for asset, price in prices.values.items()
        }
        multiple = multiples.get(self._collateral.address, 1.0)
        return replace(
            prices, values=values | {SPOT: at_multiple(self._kind(prices).spot, multiple)}
        )

    def position(self, borrower: Address, prices: Prices, at: NextBlock) -> Position | None:
        """Return an auction or an urn; None without the feed's price or the Clipper's figures."""
        judge = self._judge(prices, at)
        return None if judge is None else judge.position(borrower)

    def pairs(
        self, position: Position, prices: Prices, at: NextBlock
    ) -> tuple[Sequence[ClipTerms], Sequence[Skip]]:
        """Return the one call that pays on it in the next block, or why there is none."""
        judge = self._judge(prices, at)
        if judge is None:
            why = "the auction's figures were not read"
            market, protocol, name = position.market, position.protocol, position.borrower
            return [], [Skip(market, protocol, name, Reason.NO_PRICE, why)]
        return judge.pairs(position, self._timing)

    def after(self, position: Position, terms: Terms, repay: int) -> Position:
        """Return what a call leaves of an auction or an urn."""
        if not isinstance(terms, TakeTerms | RewardTerms):
            raise InvariantError(self.market, "these terms are another protocol's")
        return left(position, terms, repay)

    def withdrawable(self, token: Address) -> int | None:
        """Return None: nothing is shared."""
        del token
        return None

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        """Return none."""
        del token
        return ()

    def execution(self, terms: Terms) -> CallLiquidation:
        """Return the auctioneer's call; each is turned away where what it is for is gone."""
        if not isinstance(terms, TakeTerms | RewardTerms):
            raise InvariantError(self.market, "these terms are another protocol's")
        contracts, way = self._contracts, Way(terms.way)
        auctioneer, viewed, view, nth = contracts.auctioneer, contracts.auctioneer, b"", 0
        match way:
            case Way.TAKE:
                view = selector("for_sale(uint256)")
            case Way.BARK:
                viewed, nth = contracts.vat, 1
                view = selector("urns(bytes32,address)") + contracts.ilk
            case Way.REDO:
                view = selector("ended(uint256)")
        return CallLiquidation(
            auctioneer,
            CALLS[way],
            takes_amount=way is Way.TAKE,
            viewed=viewed,
            view=view,
            nth=nth,
        )

    def permissions(self) -> Sequence[Permission]:
        """Return the auctioneer's three calls; the Vat's consent is the auctioneer's own affair."""
        auctioneer = self._contracts.auctioneer
        return [AllowedCall(auctioneer, call, auctioneer) for call in CALLS.values()]

    def liquidation_target(self, debt: Address) -> tuple[Address, Address]:
        """Return the auctioneer and the stablecoin."""
        del debt
        return self._contracts.auctioneer, self._debt.address

    def backstops(self) -> Sequence[Backstop]:
        """Return what auctions still want of the stablecoin."""
        wanted = sum(sale.tab for sale in self._ledger.sales.values()) // RAY
        return (Backstop("auctioned", self._debt, wanted),)

    def _empty(self) -> Ledger:
        contracts = self._contracts
        return Ledger(self.market, contracts.clip, contracts.vat, contracts.ilk)

    def _kind(self, prices: Prices) -> Kind:
        """Return what holds for all urns, at the Vat's own price or at an imagined one."""
        spot = prices.get(SPOT)
        return self._ledger.kind if spot is None else replace(self._ledger.kind, spot=spot)

    def _judge(self, prices: Prices, at: NextBlock) -> Judge | None:
        feed = prices.get(self._collateral.address)
        if feed is None or self._figures is None:
            return None
        return Judge(
            self.market,
            self.protocol,
            self._collateral,
            self._debt,
            self._ledger,
            self._kind(prices),
            self._figures,
            feed,
            at.timestamp,
        )
