"""The pawn shop of `pawn.vy` as a lending protocol of the keeper: all an adapter needs, in one file."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from keeper.address import EvmAddress
from keeper.chain.words import address, answers, read, selector, text, topic, uint, uints
from keeper.errors import ConfigError, InvariantError
from keeper.oracles.lone_feed import LoneFeed
from keeper.ports import LegArrays, LegRow, Pages, Reader, Terms
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
    Seizure,
    Skip,
    Token,
    Undo,
    Watch,
)
from keeper.units import BPS, MAX_UINT256, WAD, Address, Bps, Wad

CHANGED = topic("Changed(address,uint256,uint256)")
LIQUIDATE = selector("liquidate(address,uint256)")
THRESHOLD, BONUS = Bps(8_000), Bps(10_500)
_TO_WAD = 10**10


class Loan(NamedTuple):
    """What a customer pledged and owes, as the contract stores it."""

    held: int
    owed: int


@dataclass(frozen=True, slots=True)
class PawnTerms:
    """One loan at one price (wad): any part of it may be repaid, as far as the pledge reaches."""

    collateral: Token
    debt: Token
    loan: Loan
    price: int
    bonus: Bps = BONUS

    @property
    def maximum(self) -> int:
        """Return the debt, or the largest repay that the pledge pays for."""
        owed, held = self.loan.owed, self.loan.held
        # one unit more could take more than is held: pawn.vy rounds down twice
        return min(owed, held * BPS // BONUS * self.price // WAD)

    @property
    def scaled_debt(self) -> int:
        """Return the debt as `loans` says it."""
        return self.loan.owed

    def legal_down(self, repay: int) -> int:
        """Return the largest repay up to this."""
        return max(min(repay, self.maximum), 0)

    def seize(self, repay: int) -> Seizure:
        """Return what pawn.vy `liquidate` does, rounded as it rounds."""
        feed = self.price // _TO_WAD
        return Seizure(repay, repay * 10**8 // feed * BONUS // BPS, 0, is_exact=True)


class Pawn:
    """Follow one shop: a loan is a position with one pair."""

    protocol: str = "pawn"

    class Config(BaseModel):
        """Which shop."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        shop: EvmAddress

    def __init__(
        self, market: str, shop: Address, pledge: Token, lent: Token, feed: Address, first: int
    ) -> None:
        self.market = market
        self.oracle = LoneFeed(
            market, read(feed, "latestAnswer()"), _worth, pledge.address, lent.address
        )
        self._shop, self._pledge, self._lent, self._first = shop, pledge, lent, first
        self._loans: dict[Address, Loan] = {}
        self._touched: set[Address] = set()

    @classmethod
    async def discover(
        cls, reader: Reader, market: str, config: Config, head: Head, first_block: int = 0
    ) -> Self:
        """Find a shop; raise `ConfigError` when there is none."""
        shop = Address(config.shop)
        asked = [read(shop, name) for name in ("pledge()", "lent()", "feed()")]
        results = await reader.multicall(asked, head.hash)
        if not all(each.ok and len(each.data) == 32 for each in results):
            raise ConfigError(f"0x{shop.hex()} is no pawn shop", "check the address")
        pledge, lent, feed = (address(each.data) for each in results)
        held, owed = [await _token(reader, each, head) for each in (pledge, lent)]
        return cls(market, shop, held, owed, feed, first_block)

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Load every customer that was ever told of, as of exactly this head."""
        customers = await reader.collect(
            f"customers of {self.market}",
            self.watch(),
            self._first,
            head.number,
            lambda log: log.topics[1][12:],
        )
        named = [Address(each) for each in sorted(customers)]
        loans = await self._read(reader, named, head)
        self._loans = {who: loan for who, loan in zip(named, loans, strict=True) if loan.owed}

    async def _read(self, reader: Reader, who: Sequence[Address], head: Head) -> list[Loan]:
        calls = [read(self._shop, "loans(address)", each) for each in who]
        data = answers(await reader.multicall(calls, head.hash), f"loans of {self.market}", 2)
        return [Loan(uint(each), uint(each, 1)) for each in data]

    def watch(self) -> Watch:
        """Return the shop, whose one event says all."""
        return Watch(frozenset({self._shop}), frozenset({CHANGED}))

    def fold(self, log: Log) -> Undo | None:
        """Take what a loan became; return what takes it back."""
        if log.address != self._shop or log.topics[0] != CHANGED:
            return None
        who = Address(log.topics[1][12:])
        before = self._loans.get(who)
        self._put(who, Loan(*uints(log.data, 2)))
        return lambda: self._put(who, before)

    def _put(self, who: Address, loan: Loan | None) -> None:
        self._touched.add(who)
        if loan is None or not loan.owed:
            self._loans.pop(who, None)
        else:
            self._loans[who] = loan

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare some loans with the chain."""
        known = sorted(self._loans)
        chosen = random.Random(seed).sample(known, min(sample, len(known)))
        told = await self._read(reader, chosen, head)
        return [
            Drift(f"loan of 0x{who.hex()}: {name}", mine, theirs)
            for who, loan in zip(chosen, told, strict=True)
            for name, mine, theirs in zip(Loan._fields, self._loans[who], loan, strict=True)
            if mine != theirs
        ]

    def snapshot(self) -> Pages:
        """Freeze the loans and return what encodes them."""
        frozen = dict(self._loans)

        def pages() -> Iterator[bytes]:
            yield orjson.dumps({who.hex(): [str(n) for n in loan] for who, loan in frozen.items()})

        return pages

    def restore(self, pages: Iterable[bytes]) -> None:
        """Replace the loans by a snapshot's."""
        try:
            held = orjson.loads(b"".join(pages))
            self._loans = {
                Address(bytes.fromhex(who)): Loan(*map(int, loan)) for who, loan in held.items()
            }
        except (TypeError, ValueError, AttributeError) as error:
            raise InvariantError(self.market, f"the snapshot cannot be read: {error}") from error

    @property
    def stopped(self) -> str:
        """Return nothing: the shop cannot change."""
        return ""

    def calls(self) -> Sequence[Call]:
        """Return no reads: logs tell all."""
        return ()

    def observe(self, results: Sequence[CallResult], head: Head) -> None:
        """Take nothing."""

    def tokens(self) -> Mapping[Address, Token]:
        """Return both tokens."""
        return {token.address: token for token in (self._pledge, self._lent)}

    def borrowers(self) -> int:
        """Return how many owe something."""
        return len(self._loans)

    def changed(self) -> set[Address]:
        """Return and forget whose loan changed."""
        touched, self._touched = self._touched, set()
        return touched

    def legs(self, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
        """Return a loan as the screen holds it: pledges are class 0, debts are class 0."""
        loan = self._loans.get(borrower)
        return (((0, loan.held),), ((0, loan.owed),)) if loan else ((), ())

    def all_legs(self) -> Callable[[], LegArrays]:
        """Freeze all loans and return what gathers their legs."""
        self._touched = set()
        frozen = dict(self._loans)

        def gathered() -> LegArrays:
            rows, classes = np.arange(len(frozen), dtype=np.intp), np.zeros(len(frozen), np.intp)
            held = np.array([float(loan.held) for loan in frozen.values()])
            owed = np.array([float(loan.owed) for loan in frozen.values()])
            return LegArrays(list(frozen), rows, classes, held, rows, classes, owed)

        return gathered

    def factors(
        self, prices: Prices, at: NextBlock
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what one unit of the pledge counts for, NaN without a price, and one of debt."""
        del at
        price = prices.get(self._pledge.address)
        counted = float("nan") if price is None else price * THRESHOLD / BPS / WAD
        return np.array([counted]), np.array([1.0])

    def position(self, borrower: Address, prices: Prices, at: NextBlock) -> Position | None:
        """Return a loan as it will be; there is no interest."""
        del at
        loan, price = self._loans.get(borrower), prices.get(self._pledge.address)
        if loan is None or price is None:
            return None
        return self._position(borrower, loan, price)

    def _position(self, borrower: Address, loan: Loan, price: int) -> Position:
        worth = loan.held * (price // _TO_WAD) // 10**8
        # pawn.vy compares the rounded limit with the debt: just as much as the limit is healthy
        limit = worth * THRESHOLD // BPS
        health = limit * WAD // loan.owed if loan.owed else MAX_UINT256
        held = CollateralLeg(self._pledge, loan.held, worth, THRESHOLD, BONUS)
        owing = DebtLeg(self._lent, loan.owed, loan.owed)
        return Position(
            self.market,
            self.protocol,
            borrower,
            (held,) if loan.held else (),
            (owing,) if loan.owed else (),
            worth,
            loan.owed,
            Wad(health),
        )

    def pairs(
        self, position: Position, prices: Prices, at: NextBlock
    ) -> tuple[Sequence[PawnTerms], Sequence[Skip]]:
        """Return the loan's one pair, or why there is none."""
        del at
        price = prices.get(self._pledge.address)
        who = (position.market, position.protocol, position.borrower)
        if price is None:
            return [], [Skip(*who, Reason.NO_PRICE, "the pledge's price was not read")]
        if position.health >= WAD or not (position.collateral and position.debt):
            return [], []
        loan = Loan(position.collateral[0].amount, position.debt[0].amount)
        return [PawnTerms(self._pledge, self._lent, loan, price)], []

    def after(self, position: Position, terms: Terms, repay: int) -> Position:
        """Return what a call leaves of a loan."""
        if not isinstance(terms, PawnTerms):
            raise InvariantError(self.market, "these terms are another protocol's")
        done = terms.seize(terms.legal_down(repay))
        left = Loan(terms.loan.held - done.received, terms.loan.owed - done.repaid)
        return replace(self._position(position.borrower, left, terms.price), state=position.state)

    def withdrawable(self, token: Address) -> int | None:
        """Return None: pledges are all there."""
        del token
        return None

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        """Return none."""
        del token
        return ()

    def execution(self, terms: Terms) -> CallLiquidation:
        """Return the call, made when `loans` says that the debt is still there."""
        del terms
        return CallLiquidation(
            self._shop,
            LIQUIDATE,
            viewed=self._shop,
            view=selector("loans(address)"),
            nth=1,
        )

    def permissions(self) -> Sequence[Permission]:
        """Return the call; the shop takes what is repaid itself."""
        return (AllowedCall(self._shop, LIQUIDATE, self._shop),)

    def liquidation_target(self, debt: Address) -> tuple[Address, Address]:
        """Return the shop, which is its own record of debts."""
        del debt
        return self._shop, self._shop

    def backstops(self) -> Sequence[Backstop]:
        """Return none: nobody insures the shop."""
        return ()


def _worth(answer: int) -> int:
    """Return dollars of 18 decimals; none where the answer, an int256, is below zero."""
    return answer * _TO_WAD if answer < 1 << 255 else 0


async def _token(reader: Reader, token: Address, head: Head) -> Token:
    calls = [read(token, "symbol()"), read(token, "decimals()")]
    symbol, decimals = answers(await reader.multicall(calls, head.hash), f"token 0x{token.hex()}")
    return Token(token, text(symbol), uint(decimals))
