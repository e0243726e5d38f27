"""One Clipper's auctions as the keeper follows them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Self

import numpy as np
import orjson
from eth_utils.address import to_checksum_address
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from keeper.address import EvmAddress
from keeper.chain.words import address, answers, read, selector, text, uint
from keeper.errors import ConfigError, IncompleteError, InvariantError
from keeper.ports import LegArrays, LegRow, Oracle, Pages, Reader, Terms
from keeper.protocols.maker_clip import rules
from keeper.protocols.maker_clip.feed import collateral_feed
from keeper.protocols.maker_clip.ledger import TOPICS, Ledger, Sale, name_of, number_of
from keeper.protocols.maker_clip.terms import ClipTerms
from keeper.types import (
    AllowedCall,
    Backstop,
    Call,
    CallLiquidation,
    CallResult,
    CollateralLeg,
    DebtLeg,
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
from keeper.units import MAX_UINT256, RAY, WAD, Address, Bps, Wad

TAKE = selector("take(uint256,uint256,uint256,address,bytes)")
HOPE = selector("hope(address)")
_DATA_AT = 160
WORDS = 6
"""Words of what `sales` gives: position, debt, lot, owner, start, first price."""


class MakerClip:
    """Follow one Clipper: every running auction is a position with one pair.

    It is taken whole through an exchange callee, which sells the collateral, pays the auction and
    sends the rest: no loan is needed. When is the market's business, not a strategy's: an auction is
    offered at the moment at which waiting is worth less than the risk of losing it.
    """

    protocol: str = "maker-clip"

    class Config(BaseModel):
        """Which auctions, through whom, and what waiting for a better price risks."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        clip: EvmAddress
        vat: EvmAddress
        callee: EvmAddress
        data: Annotated[tuple[EvmAddress | int, ...], Field(min_length=1, max_length=9)]
        """What the callee is told, word by word: whom to send the rest to, and its route."""
        collateral: EvmAddress
        debt: EvmAddress
        feed: EvmAddress
        """An aggregator of the collateral's price in dollars, 8 decimals."""
        survival_percent: Annotated[int, Field(ge=0, le=100)] = 50
        """How likely an auction that pays is still there one price later."""
        slippage_bps: Annotated[int, Field(ge=0, le=5_000)] = 100
        """What a sale is expected to lose against the feed."""
        cost_usd: Annotated[int, Field(ge=0)] = 20
        """What a take costs in gas, as far as its moment goes."""

    def __init__(
        self,
        market: str,
        config: Config,
        calculator: Address,
        collateral: Token,
        debt: Token,
        oracle: Oracle,
    ) -> None:
        self.market = market
        self.oracle = oracle
        self._config = config
        self._calculator = calculator
        self._collateral = collateral
        self._debt = debt
        self._ledger = Ledger(market)
        self._figures: rules.Figures | None = None

    @classmethod
    async def discover(
        cls, reader: Reader, market: str, config: Config, head: Head, first_block: int = 0
    ) -> Self:
        """Find a Clipper; raise `ConfigError` when there is none.

        `first_block` is not needed: the contract lists its auctions.
        """
        del first_block
        clip = Address(config.clip)
        asked = [read(clip, "calc()"), read(clip, "count()"), read(clip, "sales(uint256)", 0)]
        calc, count, sale = await reader.multicall(asked, head.hash)
        if not (calc.ok and count.ok and len(calc.data) == len(count.data) == 32):
            raise ConfigError(
                f"{to_checksum_address(clip)} is no Clipper: it does not say its calculator",
                "clip is the contract that emits Kick, one for each kind of collateral",
            )
        if not sale.ok or len(sale.data) != 32 * WORDS:
            raise ConfigError(
                f"{to_checksum_address(clip)} keeps its auctions in another form than a Clipper",
                "a Clipper of Maker's first kind: sales() gives six words",
            )
        found = []
        for token in (config.collateral, config.debt):
            calls = [read(Address(token), "symbol()"), read(Address(token), "decimals()")]
            symbol, decimals = await reader.multicall(calls, head.hash)
            if not (symbol.ok and decimals.ok and len(decimals.data) == 32):
                raise ConfigError(f"{to_checksum_address(token)} is no token")
            found.append(Token(Address(token), text(symbol.data), uint(decimals.data)))
        collateral, debt = found
        if (collateral.decimals, debt.decimals) != (18, 18):
            raise ConfigError(f"{collateral.symbol} and {debt.symbol} need 18 decimals")
        oracle = collateral_feed(market, Address(config.feed), collateral.address, debt.address)
        return cls(market, config, address(calc.data), collateral, debt, oracle)

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Load every running auction as of exactly this head."""
        clip, block = self._config.clip, head.hash
        (count,) = answers(await reader.multicall([read(clip, "count()")], block), self.market)
        total = uint(count)
        listed = [read(clip, "active(uint256)", place) for place in range(total)]
        numbers = [
            uint(each) for each in answers(await reader.multicall(listed, block), self.market)
        ]
        ledger = Ledger(self.market)
        for number, sale in zip(numbers, await self._sales(reader, numbers, head), strict=True):
            if sale is None:
                raise IncompleteError(
                    f"auction {number} of {self.market} is listed and not running"
                )
            ledger.sales[number] = sale
        self._ledger = ledger
        self.observe(await reader.multicall(self.calls(), block), head)

    async def _sales(self, reader: Reader, numbers: Sequence[int], head: Head) -> list[Sale | None]:
        calls = [read(self._config.clip, "sales(uint256)", number) for number in numbers]
        data = answers(
            await reader.multicall(calls, head.hash), f"auctions of {self.market}", WORDS
        )
        return [
            Sale(uint(each, 1), uint(each, 2), uint(each, 4), uint(each, 5))
            if uint(each, 3)
            else None
            for each in data
        ]

    @property
    def stopped(self) -> str:
        """Return nothing: what the contract refuses is refused position by position."""
        return ""

    def watch(self) -> Watch:
        """Return the Clipper, whose events change an auction."""
        return Watch(frozenset({Address(self._config.clip)}), TOPICS)

    def fold(self, log: Log) -> Undo | None:
        """Apply one log; raise `InvariantError` for this market when it cannot be right."""
        return self._ledger.fold(log) if log.address == self._config.clip else None

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare the first auctions with the chain; there are few."""
        del seed
        held = dict(list(self._ledger.sales.items())[:sample])
        found = []
        for (number, mine), theirs in zip(
            held.items(), await self._sales(reader, list(held), head), strict=True
        ):
            told = theirs or Sale(0, 0, 0, 0)
            found += [
                Drift(f"auction {number} {name}", value, actual)
                for name, value, actual in zip(Sale._fields, mine, told, strict=True)
                if value != actual
            ]
        return found

    def snapshot(self) -> Pages:
        """Freeze the auctions and return what encodes them."""
        frozen = dict(self._ledger.sales)
        clip = self._config.clip.hex()

        def pages() -> Iterator[bytes]:
            sales = {str(number): [str(each) for each in sale] for number, sale in frozen.items()}
            yield orjson.dumps({"clip": clip, "sales": sales})

        return pages

    def restore(self, pages: Iterable[bytes]) -> None:
        """Replace the auctions by a snapshot's; raise `InvariantError` when it cannot be read."""
        try:
            held = orjson.loads(b"".join(pages))
            sales = {
                int(number): Sale(*(int(each) for each in sale))
                for number, sale in held["sales"].items()
            }
            if held["clip"] != self._config.clip.hex():
                raise InvariantError(self.market, "the snapshot is of another Clipper")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InvariantError(self.market, f"the snapshot cannot be read: {error}") from error
        self._ledger = Ledger(self.market, sales)

    def calls(self) -> Sequence[Call]:
        """Return reads of the figures that governance sets without a log here."""
        return rules.figure_calls(self._config.clip, self._calculator)

    def observe(self, results: Sequence[CallResult], head: Head) -> None:
        """Take the answers to `calls`."""
        del head
        self._figures = rules.figures_of(results)

    def tokens(self) -> Mapping[Address, Token]:
        """Return the collateral and the stablecoin."""
        return {token.address: token for token in (self._collateral, self._debt)}

    def borrowers(self) -> int:
        """Return how many auctions run."""
        return len(self._ledger.sales)

    def changed(self) -> set[Address]:
        """Return and forget the auctions that changed."""
        changed, self._ledger.touched = self._ledger.touched, set()
        return changed

    def legs(self, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
        """Return a leg each, so that every running auction is looked at."""
        if number_of(borrower) not in self._ledger.sales:
            return (), ()
        return ((0, 1),), ((0, 1),)

    def all_legs(self) -> Callable[[], LegArrays]:
        """Freeze which auctions run and return what gathers their legs."""
        self._ledger.touched = set()
        names = [name_of(number) for number in self._ledger.sales]

        def gathered() -> LegArrays:
            rows, ones = np.arange(len(names), dtype=np.intp), np.ones(len(names))
            classes = np.zeros(len(names), np.intp)
            return LegArrays(names, rows, classes, ones, rows, classes, ones)

        return gathered

    def factors(
        self, prices: Prices, at: NextBlock
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return that no auction is ever safe: each has its own price."""
        del prices, at
        return np.array([0.0]), np.array([1.0])

    def position(self, borrower: Address, prices: Prices, at: NextBlock) -> Position | None:
        """Return an auction, its health the price asked over the feed's; None without either."""
        sale = self._ledger.sales.get(number_of(borrower))
        feed = prices.get(self._collateral.address)
        if sale is None or feed is None or self._figures is None:
            return None
        asked = self._figures.auction(sale).price_at(at.timestamp)
        worth, owed = sale.lot * feed // WAD, sale.tab // RAY
        held = CollateralLeg(self._collateral, sale.lot, worth, Bps(0), Bps(0))
        owing = DebtLeg(self._debt, owed, owed)
        health = Wad(asked * WAD // (feed * RAY // WAD))
        return Position(
            self.market, self.protocol, borrower, (held,), (owing,), worth, owed, health
        )

    def pairs(
        self, position: Position, prices: Prices, at: NextBlock
    ) -> tuple[Sequence[ClipTerms], Sequence[Skip]]:
        """Return the terms of an auction whose moment is the next block, or why it is not."""

        def skip(reason: Reason, why: str) -> tuple[list[ClipTerms], list[Skip]]:
            return [], [Skip(position.market, position.protocol, position.borrower, reason, why)]

        sale = self._ledger.sales.get(number_of(position.borrower))
        feed = prices.get(self._collateral.address)
        if sale is None or feed is None or self._figures is None:
            return skip(Reason.NO_PRICE, "the auction's figures were not read")
        if self._figures.stopped >= rules.NO_TAKE:
            return skip(Reason.PAUSED, "the Clipper is stopped")
        auction = self._figures.auction(sale)
        if auction.needs_redo(at.timestamp):
            return skip(Reason.DENIED, "it has to be started anew")
        config = self._config
        cost = config.cost_usd * WAD
        survival = config.survival_percent * 10_000
        chosen = rules.best(auction, feed, config.slippage_bps, cost, survival, at.timestamp)
        if chosen is None:
            return skip(Reason.UNPROFITABLE, "no price it will fall to pays")
        if chosen.timestamp > at.timestamp:
            return skip(Reason.UNPROFITABLE, f"waiting is worth more, until {chosen.timestamp}")
        return [ClipTerms(self._debt, chosen.profit + cost, sale.lot)], []

    def after(self, position: Position, terms: Terms, repay: int) -> Position:
        """Return the position without its legs: an auction is taken whole."""
        if not isinstance(terms, ClipTerms):
            raise InvariantError(self.market, "these terms are another protocol's")
        if not terms.legal_down(repay):
            return position
        return replace(
            position,
            collateral=(),
            debt=(),
            collateral_value=0,
            debt_value=0,
            health=Wad(MAX_UINT256),
        )

    def withdrawable(self, token: Address) -> int | None:
        """Return None: nothing is shared."""
        del token
        return None

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        """Return none."""
        del token
        return ()

    def execution(self, terms: Terms) -> CallLiquidation:
        """Return the take of all, at whatever price, through the callee."""
        del terms
        config = self._config
        told = b"".join(
            each.to_bytes(32, "big") if isinstance(each, int) else each.rjust(32, b"\0")
            for each in config.data
        )
        words = MAX_UINT256.to_bytes(32, "big")
        return CallLiquidation(
            Address(config.clip),
            TAKE,
            middle=words + words + config.callee.rjust(32, b"\0"),
            closing=_DATA_AT.to_bytes(32, "big") + len(told).to_bytes(32, "big") + told,
            takes_amount=False,
            viewed=Address(config.clip),
            view=selector("sales(uint256)"),
            nth=2,
        )

    def permissions(self) -> Sequence[Permission]:
        """Return the take, and the consent the Vat wants once."""
        config = self._config
        clip, vat = Address(config.clip), Address(config.vat)
        return AllowedCall(clip, TAKE, clip), AllowedCall(vat, HOPE, vat)

    def liquidation_target(self, debt: Address) -> tuple[Address, Address]:
        """Return the Clipper and the stablecoin."""
        del debt
        return Address(self._config.clip), self._debt.address

    def backstops(self) -> Sequence[Backstop]:
        """Return what auctions still want of the stablecoin."""
        wanted = sum(sale.tab for sale in self._ledger.sales.values()) // RAY
        return (Backstop("auctioned", self._debt, wanted),)
