"""One market of Compound V2 or a fork of it, under one comptroller, as the keeper follows it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from keeper.address import EvmAddress
from keeper.chain.codes import doubts, fingerprint
from keeper.chain.tokens import name_tokens
from keeper.chain.words import read, selector, word
from keeper.errors import InvariantError
from keeper.ports import LegArrays, LegRow, Oracle, Pages, PriceSource, Reader, Terms, Told, Venue
from keeper.protocols.compound_v2 import events, screening, snapshot, valuation
from keeper.protocols.compound_v2.audit import audit
from keeper.protocols.compound_v2.bootstrap import (
    Deployment,
    find,
    load_terms,
    state_calls,
    take_state,
)
from keeper.protocols.compound_v2.exponential import exchange_rate_down
from keeper.protocols.compound_v2.holders import load_holders
from keeper.protocols.compound_v2.ledger import CORE, Ledger
from keeper.protocols.compound_v2.liquidation import read_liquidation
from keeper.protocols.compound_v2.oracle import CompoundOracle
from keeper.protocols.compound_v2.pairs import pairs
from keeper.protocols.compound_v2.redemption import REDEEM, Redemption
from keeper.protocols.compound_v2.terms import CompoundTerms
from keeper.protocols.compound_v2.vai import (
    LATELY,
    MARGIN,
    RULES,
    SOME,
    Unread,
    minter_calls,
    rule_calls,
    take_minter,
    take_rules,
)
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
from keeper.units import MAX_UINT256, WAD, ZERO_ADDRESS, Address, Wad

LIQUIDATE = selector("liquidateBorrow(address,uint256,address)")
LIQUIDATE_NATIVE = selector("liquidateBorrow(address,address)")
LIQUIDATE_THROUGH = selector("liquidateBorrow(address,address,uint256,address)")
"""Of Venus' liquidator contract."""
BORROW_BALANCE = selector("borrowBalanceStored(address)")


class CompoundV2:
    """Follow one market; `bootstrap` loads it before anything else is asked."""

    protocol: str = "compound-v2"

    def __init__(
        self, market: str, deployment: Deployment, first_block: int = 0, code: str = ""
    ) -> None:
        self.market = market
        self.oracle: Oracle = CompoundOracle(
            market, deployment.comptroller, deployment.oracle, lambda: self._ledger.ctokens
        )
        self._deployment = deployment
        self._first_block = first_block
        self._code = code
        self._known = deployment.codes
        self._doubt = ""
        self._ledger = Ledger(market)
        self._asked = 0
        self._minters: list[Address] = []
        self._lately: dict[Address, int] = {}
        self._redemption = Redemption(f"{market}-redeem", lambda: self._ledger)

    class Config(BaseModel):
        """Which market: its comptroller, and the wrapped native coin if a cToken holds the coin.

        Venus' liquidator contract names the wrapped coin itself. `code` is the fingerprint of the
        market's code that was reviewed; without one, code is known as it was first found.
        """

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        comptroller: EvmAddress
        wrapped_native: EvmAddress | None = None
        code: str = Field(default="", pattern=r"^(0x[0-9a-f]{16})?$")

    @classmethod
    async def discover(
        cls, reader: Reader, market: str, config: Config, head: Head, first_block: int = 0
    ) -> Self:
        """Find a market from its comptroller; raise `ConfigError` when there is none.

        `first_block` is any block up to the comptroller's first use; logs are read from it.
        """
        deployment = await find(reader, config.comptroller, config.wrapped_native, head)
        return cls(market, deployment, first_block, config.code)

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Load every cToken and holder as of exactly this head."""
        native = (asset.underlying for asset in self._deployment.assets if asset.is_native)
        comptroller, wrapped = self._deployment.comptroller, next(native, None)
        deployment = await find(reader, comptroller, wrapped, head)
        ledger = await load_terms(reader, self.market, deployment, head)
        await load_holders(reader, deployment, head, ledger, self._first_block)
        self._deployment, self._ledger = deployment, ledger
        self._judge_code()
        self._choose_minters(head.number)
        self.observe(await reader.multicall(self.calls(), head.hash), head)

    async def sources(self, reader: Reader, head: Head) -> Sequence[PriceSource]:
        """Return what the comptroller's oracle is asked; what is behind it, nothing tells."""
        found = self._deployment
        tokens = await name_tokens(reader, (each.underlying for each in found.assets), head)
        return [
            PriceSource(
                token,
                read(found.oracle, "getUnderlyingPrice(address)", each.ctoken),
                valuation.PRICE_UNIT // 10**token.decimals,
                found.oracle,
            )
            for each in found.assets
            if (token := tokens.get(each.underlying)) is not None
        ]

    @property
    def stopped(self) -> str:
        """Return why the market is only watched, empty when it is not."""
        return self._ledger.stopped or self._doubt

    def watch(self) -> Watch:
        """Return the comptroller, its cTokens, and Venus' contracts beside it."""
        found = self._deployment
        beside = {found.comptroller, found.liquidator, found.vai} - {ZERO_ADDRESS}
        return Watch(frozenset(self._ledger.by_address) | beside, events.TOPICS)

    def fold(self, log: Log) -> Undo | None:
        """Apply one log; raise `InvariantError` for this market when it cannot be right."""
        found = self._deployment
        return events.fold(self._ledger, found.comptroller, found.vai, log)

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare cTokens and a random sample of holders with the chain."""
        return await audit(reader, self._ledger, self._deployment.comptroller, head, sample, seed)

    def snapshot(self) -> Pages:
        """Freeze the ledger and return what encodes it."""
        return partial(snapshot.pages, self._ledger.freeze(), self._deployment, self._known)

    def restore(self, pages: Iterable[bytes]) -> None:
        """Replace the ledger by a snapshot's; raise `InvariantError` when it cannot be read."""
        self._ledger, self._known = snapshot.read(pages, self.market, self._deployment)
        self._judge_code()
        self._choose_minters()

    def remember(self, page: bytes) -> None:
        """Know the code as a snapshot's first page does, when that is of this comptroller."""
        self._known = snapshot.codes(page, self._deployment.comptroller) or self._known

    def calls(self) -> Sequence[Call]:
        """Return reads of what events do not tell: cash, supply, reserves and rate of each cToken.

        No fold changes them, so that nobody can have a head's reads asked for twice: who minted VAI
        since the last `observe` is read with the head after.
        """
        ledger = self._ledger
        found = [
            call
            for ctoken in ledger.ctokens
            for call in state_calls(ctoken, by_seconds=ledger.by_seconds)
        ]
        self._asked = len(found)
        vai = ledger.vai
        if vai is not None:
            comptroller = self._deployment.comptroller
            found += rule_calls(vai, comptroller, ledger.liquidator)
            for minter in self._minters:
                found += minter_calls(vai.controller, comptroller, minter)
        return found

    def observe(self, results: Sequence[CallResult], head: Head) -> None:
        """Take the answers to the last `calls`."""
        ledger, vai, minters = self._ledger, self._ledger.vai, self._minters
        told = results[self._asked :]
        if len(results) < self._asked or len(told) not in {0, RULES + 3 * len(minters)}:
            raise InvariantError(self.market, f"{len(results)} answers to {self._asked} reads")
        for number, ctoken in enumerate(ledger.ctokens):
            take_state(ctoken, results[4 * number : 4 * number + 4])
        if vai is None or not told:
            return
        through = ledger.liquidator != ZERO_ADDRESS
        vai.rules = take_rules(told[:RULES], head.number, through=through)
        for number, minter in enumerate(minters):
            known = ledger.minters.get(minter)
            # It may have changed again in a block folded since.
            if isinstance(known, Unread) and known.block <= head.number:
                self._lately[minter] = known.block
                debt = take_minter(told[RULES + 3 * number : RULES + 3 * number + 3])
                if debt is not None:
                    ledger.set_minter(minter, debt if debt.amount else None)
        if vai.rules is not None and (ahead := vai.rules.index_at(head.number + 1)) > vai.shown:
            vai.shown = ahead + ahead // MARGIN
            ledger.touched |= {minter for minter in ledger.minters if minter in ledger.owing}
        self._choose_minters(head.number)

    def tokens(self) -> Mapping[Address, Token]:
        """Return the underlying tokens by address, and VAI; cTokens are traded nowhere."""
        vai = self._ledger.vai
        found = {} if vai is None else {vai.token.address: vai.token}
        return found | {each.underlying.address: each.underlying for each in self._ledger.ctokens}

    def borrowers(self) -> int:
        """Return how many holders have debt."""
        return len(self._ledger.owing)

    def changed(self) -> set[Address]:
        """Return and forget the borrowers whose legs changed."""
        changed, self._ledger.touched = self._ledger.touched, set()
        return changed

    def legs(self, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
        """Return what a borrower entered by class, and debt by cToken."""
        return screening.legs(self._ledger, borrower)

    def all_legs(self) -> Callable[[], LegArrays]:
        """Freeze every borrower's legs and return what gathers them, to be called off the loop."""
        self._ledger.touched = set()
        return partial(screening.gather, self._ledger.freeze())

    def factors(
        self, prices: Prices, at: NextBlock
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return dollars per unit, collateral by class and weighted, debt by cToken."""
        return screening.factors(self._ledger, prices, valuation.moment(self._ledger, at))

    def position(self, borrower: Address, prices: Prices, at: NextBlock) -> Position | None:
        """Return a position with interest to that block, its health the least a call would find."""
        held = self._parts(borrower, prices, at)
        if held is None:
            return None
        pool = self._ledger.chosen.get(borrower, CORE)
        blank = Position(self.market, self.protocol, borrower, (), (), 0, 0, Wad(MAX_UINT256), pool)
        return valuation.with_parts(blank, held)

    def pairs(
        self, position: Position, prices: Prices, at: NextBlock
    ) -> tuple[Sequence[CompoundTerms], Sequence[Skip]]:
        """Return the terms of every pair open to liquidation, and refusals for the others."""

        def refuse(reason: Reason, why: str) -> tuple[Sequence[CompoundTerms], Sequence[Skip]]:
            return [], [Skip(self.market, self.protocol, position.borrower, reason, why)]

        if self.stopped:
            return refuse(Reason.DENIED, self.stopped)
        held = self._parts(position.borrower, prices, at)
        if held is None:
            return refuse(Reason.NO_PRICE, "a price or a cToken's state was not read")
        return pairs(self._ledger, position, valuation.behind(held, position))

    def after(self, position: Position, terms: Terms, repay: int) -> Position:
        """Return what a legal call on one of the position's pairs leaves of it, in the same block."""
        if not isinstance(terms, CompoundTerms):
            raise InvariantError(self.market, "these terms are another protocol's")
        return terms.after(position, repay)

    def withdrawable(self, token: Address) -> int | None:
        """Return the cTokens that a cToken's cash can redeem, None when it was not read."""
        ctoken = self._ledger.by_address.get(token)
        if ctoken is None or not ctoken.is_read:
            return None
        totals, cash, supply = ctoken.stored, ctoken.cash or 0, ctoken.supply or 0
        rate = exchange_rate_down(cash, totals.borrows, totals.reserves, supply)
        return cash * WAD // rate if rate else 0

    def liquidation(self, log: Log) -> Told | None:
        """Return what a log tells of a liquidation here, None when it tells of something else."""
        return read_liquidation(self._ledger, log)

    def liquidation_logs(self) -> Watch:
        """Return the cTokens' own event, whoever was called, and that of VAI's controller."""
        vai, told = self._ledger.vai, frozenset({events.LIQUIDATE})
        if vai is None:
            return Watch(frozenset(self._ledger.by_address), told)
        return Watch(
            frozenset((*self._ledger.by_address, vai.controller)), told | {events.LIQUIDATE_VAI}
        )

    def worth(self, prices: Prices) -> float:
        """Return what a wad dollar is worth in the oracle's 36 decimals."""
        del prices
        return valuation.PRICE_UNIT / WAD

    def plain(self, position: Position, prices: Prices) -> tuple[Position, Prices]:
        """Return a position that holds what its cTokens redeem for, without regard to cash."""
        return valuation.plain(self._ledger, position, prices), prices

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        """Return nothing: Compound lends no flash loans, and Venus to whom it lists."""
        del token
        return ()

    def execution(self, terms: Terms) -> CallLiquidation:
        """Return a call of the borrowed cToken, or of Venus' liquidator contract where there is one."""
        if not isinstance(terms, CompoundTerms):
            raise InvariantError(self.market, "these terms are another protocol's")
        liquidator = self._deployment.liquidator
        through = liquidator != ZERO_ADDRESS
        direct = LIQUIDATE_NATIVE if terms.is_native else LIQUIDATE
        return CallLiquidation(
            target=liquidator if through else terms.borrowed,
            opening=LIQUIDATE_THROUGH + word(terms.borrowed) if through else direct,
            closing=word(terms.seized),
            takes_amount=through or not terms.is_native,
            value=terms.is_native,
            viewed=terms.borrowed,
            view=BORROW_BALANCE,
        )

    def permissions(self) -> Sequence[Permission]:
        """Return the liquidations, and the redemption of every cToken."""
        found, liquidator = self._deployment, self._deployment.liquidator
        redeeming = [AllowedCall(a.ctoken, REDEEM, a.ctoken) for a in found.assets]
        if liquidator != ZERO_ADDRESS:
            return [AllowedCall(liquidator, LIQUIDATE_THROUGH, liquidator), *redeeming]
        liquidating = [
            AllowedCall(a.ctoken, LIQUIDATE_NATIVE if a.is_native else LIQUIDATE, a.ctoken)
            for a in found.assets
        ]
        return [*liquidating, *redeeming]

    def liquidation_target(self, debt: Address) -> tuple[Address, Address]:
        """Return the contract to call for a debt, and the cToken that tells it."""
        for ctoken in self._ledger.ctokens:
            if debt in {ctoken.address, ctoken.underlying.address}:
                through = self._deployment.liquidator
                return (ctoken.address if through == ZERO_ADDRESS else through), ctoken.address
        raise InvariantError(self.market, f"0x{debt.hex()} is no token of it")

    def backstops(self) -> Sequence[Backstop]:
        """Return every cToken's reserves (CToken.totalReserves)."""
        return tuple(
            Backstop("reserves", each.underlying, each.reserves)
            for each in self._ledger.ctokens
            if each.reserves is not None
        )

    def redemption(self) -> Venue:
        """Return the redemption of what is seized, to sell it by."""
        return self._redemption

    def _choose_minters(self, block: int = 0) -> None:
        """Choose whose debts the next head's reads ask for: the unread, and who may change again.

        Otherwise whoever mints at each head would be judged at every second one.
        """
        self._lately = {who: at for who, at in self._lately.items() if at > block - LATELY}
        wanted = dict.fromkeys((*islice(self._ledger.unread, SOME), *self._lately))
        self._minters = list(islice(wanted, SOME))

    def _judge_code(self) -> None:
        """Stop the market, or a cToken of it, where its code is not the one that is known."""
        codes, self._doubt = self._deployment.codes, ""
        if self._code == (found := fingerprint(codes)):
            self._known = codes
        elif self._code and self._code != fingerprint(self._known):
            self._doubt = f"its code {found} is not the code that was reviewed, {self._code}"
            return
        for contract, doubt in doubts(self._known, codes).items():
            ctoken = self._ledger.by_address.get(contract)
            if ctoken is None:
                self._doubt = doubt
            else:
                ctoken.doubt = doubt

    def _parts(
        self, borrower: Address, prices: Prices, at: NextBlock
    ) -> list[valuation.Part] | None:
        until = valuation.moment(self._ledger, at)
        return valuation.parts(self._ledger, borrower, prices, until)
