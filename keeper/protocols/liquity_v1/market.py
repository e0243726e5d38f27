"""One system of the Liquity V1 family as the keeper follows it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from keeper.address import EvmAddress
from keeper.chain.codes import doubts, fingerprint
from keeper.chain.words import read, selector, uint
from keeper.errors import ConfigError, InvariantError
from keeper.ports import LegArrays, LegRow, Oracle, Pages, PriceSource, Reader, Terms, Told
from keeper.protocols.liquity_v1 import events, rules, screening, snapshot, valuation
from keeper.protocols.liquity_v1.audit import audit
from keeper.protocols.liquity_v1.bootstrap import find, load
from keeper.protocols.liquity_v1.feed import coin_feed
from keeper.protocols.liquity_v1.ledger import Ledger
from keeper.protocols.liquity_v1.liquidation import read_liquidation
from keeper.protocols.liquity_v1.terms import Deployment, LiquityTerms
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
    Skip,
    Token,
    Undo,
    Watch,
)
from keeper.units import WAD, Address

LIQUIDATE = selector("batchLiquidateTroves(address[])")


class LiquityV1:
    """Follow one system; `bootstrap` loads it before anything else is asked.

    Every trove is a position with one pair. Whoever liquidates it is paid and repays nothing.
    """

    protocol: str = "liquity-v1"

    def __init__(self, market: str, deployment: Deployment, oracle: Oracle, code: str = "") -> None:
        self.market = market
        self.oracle = oracle
        self._deployment = deployment
        self._code = code
        self._known = deployment.codes
        self._doubt = ""
        self._surplus: int | None = None
        self._reserves: int | None = None
        self._follow(Ledger(market))

    class Config(BaseModel):
        """Which system: its trove manager, and what its coin is wrapped into for a sale.

        `code` is the fingerprint of the system's code that was reviewed; without one, code is known as
        it was first found.
        """

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        trove_manager: EvmAddress
        wrapped: EvmAddress
        is_coin: bool = False
        """The wrapped token is the coin itself under a token's face, as on Mezo."""
        code: str = Field(default="", pattern=r"^(0x[0-9a-f]{16})?$")

    @classmethod
    async def discover(
        cls, reader: Reader, market: str, config: Config, head: Head, first_block: int = 0
    ) -> Self:
        """Find a system from its trove manager; raise `ConfigError` when there is none.

        `first_block` is not needed: the contracts list their troves.
        """
        del first_block
        deployment = await find(
            reader, config.trove_manager, config.wrapped, head, is_coin=config.is_coin
        )
        contracts = deployment.contracts
        coin, debt = deployment.coin.address, deployment.debt.address
        feed = coin_feed(market, contracts.feed, coin, debt)
        return cls(market, deployment, feed, config.code)

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Load every trove and the system's sums as of exactly this head, and look at its code again.

        What was replaced by code that is not known is loaded and followed, and only watched. Raises
        `InvariantError` when the system's contracts are others now, or its rules others than known.
        """
        before = self._deployment
        manager, coin = before.contracts.manager, before.coin.address
        try:
            found = await find(reader, manager, coin, head, is_coin=before.is_coin)
        except ConfigError as error:
            raise InvariantError(self.market, str(error)) from error
        if (found.contracts, found.debt) != (before.contracts, before.debt):
            raise InvariantError(self.market, "its contracts are others than before: start again")
        self._follow(await load(reader, self.market, found, head))
        self._deployment = found
        self._judge_code()
        self.observe(await reader.multicall(self.calls(), head.hash), head)

    async def sources(self, reader: Reader, head: Head) -> Sequence[PriceSource]:
        """Return the system's own feed of the coin."""
        del reader, head
        (call,) = self.oracle.calls()
        return (PriceSource(self._deployment.coin, call, WAD, call.target),)

    @property
    def stopped(self) -> str:
        """Return why the market is only watched, empty when it is not."""
        return self._ledger.stopped or self._doubt

    def liquidation(self, log: Log) -> Told | None:
        """Return what a log tells of a liquidation here, None when it tells of something else."""
        return read_liquidation(log, self._deployment)

    def liquidation_logs(self) -> Watch:
        """Return the trove manager's own event."""
        manager = self._deployment.contracts.manager
        return Watch(frozenset({manager}), frozenset({events.TROVE_LIQUIDATED}))

    def plain(self, position: Position, prices: Prices) -> tuple[Position, Prices]:
        """Return a position whose collateral costs its owner what a liquidation takes of it: all."""
        return valuation.plain(position), prices

    def watch(self) -> Watch:
        """Return every contract whose events change a trove or a sum."""
        return Watch(self._deployment.contracts.watched, events.TOPICS)

    def fold(self, log: Log) -> Undo | None:
        """Apply one log; raise `InvariantError` for this market when it cannot be right."""
        change = self._changes.get((log.address, log.topics[0])) if log.topics else None
        if change is None:
            return None
        try:
            return change(log)
        except (ArithmeticError, LookupError, ValueError) as error:
            raise events.undecodable(self.market, log, str(error)) from error

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare the sums and a random sample of troves with the chain."""
        return await audit(reader, self._ledger, self._deployment, head, sample, seed)

    def snapshot(self) -> Pages:
        """Freeze the ledger and return what encodes it."""
        head = snapshot.header(self._ledger, self._deployment, self._known)
        return partial(snapshot.pages, head, dict(self._ledger.troves))

    def restore(self, pages: Iterable[bytes]) -> None:
        """Replace the ledger by a snapshot's; raise `InvariantError` when it cannot be read."""
        ledger, self._known = snapshot.restored(pages, self.market, self._deployment)
        self._follow(ledger)
        self._judge_code()

    def remember(self, page: bytes) -> None:
        """Know the code as a snapshot's first page does, when that is of these contracts."""
        self._known = snapshot.codes(page, self._deployment) or self._known

    def calls(self) -> Sequence[Call]:
        """Return reads of what events do not tell: what owners may claim, and the reserves."""
        contracts = self._deployment.contracts
        return (
            read(contracts.surplus_pool, "getCollateralBalance()"),
            read(contracts.token, "balanceOf(address)", contracts.gas_pool),
        )

    def observe(self, results: Sequence[CallResult], head: Head) -> None:
        """Take the answers to `calls`, and see that the screen reaches beyond the head."""
        self._surplus, self._reserves = (
            uint(each.data) if each.ok and len(each.data) == 32 else None for each in results
        )
        self._ledger.look_ahead(head.timestamp)

    def tokens(self) -> Mapping[Address, Token]:
        """Return the wrapped coin and the system's own token."""
        deployment = self._deployment
        return {token.address: token for token in (deployment.coin, deployment.debt)}

    def borrowers(self) -> int:
        """Return how many troves are open."""
        return len(self._ledger.troves)

    def changed(self) -> set[Address]:
        """Return and forget the borrowers whose legs changed."""
        changed, self._ledger.touched = self._ledger.touched, set()
        return changed

    def legs(self, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
        """Return a trove's collateral and debt."""
        return screening.legs(self._ledger, borrower)

    def all_legs(self) -> Callable[[], LegArrays]:
        """Freeze every trove's legs and return what gathers them, to be called off the loop."""
        ledger = self._ledger
        ledger.touched = set()
        frozen = replace(ledger, troves=dict(ledger.troves), touched=set())

        def gathered() -> LegArrays:
            return screening.gather(
                {
                    owner: frozen.whole(trove, frozen.horizon)
                    for owner, trove in frozen.troves.items()
                }
            )

        return gathered

    def factors(
        self, prices: Prices, at: NextBlock
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what a wei of the coin counts for, and a wei of debt; interest is in the legs."""
        del at
        return screening.factors(prices, self._deployment.coin.address)

    def position(self, borrower: Address, prices: Prices, at: NextBlock) -> Position | None:
        """Return what TroveManager.getEntireDebtAndColl says in that block, with its ratio."""
        return valuation.position(
            self._ledger, self._deployment, self.protocol, borrower, prices, at.timestamp
        )

    def pairs(
        self, position: Position, prices: Prices, at: NextBlock
    ) -> tuple[Sequence[LiquityTerms], Sequence[Skip]]:
        """Return the one pair of a trove that may be liquidated, or why it may not."""
        return valuation.pairs(
            self._ledger, self._deployment, position, prices, at.timestamp, self.stopped
        )

    def after(self, position: Position, terms: Terms, repay: int) -> Position:
        """Return the position without its legs: a trove is taken whole."""
        if not isinstance(terms, LiquityTerms):
            raise InvariantError(self.market, "these terms are another protocol's")
        if not terms.legal_down(repay):
            return position
        return position.emptied()

    def withdrawable(self, token: Address) -> int | None:
        """Return the coins of all troves: compensation comes out of the active pool."""
        if token == self._deployment.coin.address:
            return rules.compensation_down(self._ledger.system.collateral)
        return None

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        """Return none: the system lends nothing for one transaction."""
        del token
        return ()

    def execution(self, terms: Terms) -> CallLiquidation:
        """Return the call for all troves of a group: what it brings comes as coin and as the debt token.

        It leaves out whom others closed or who is healthy (TroveManager._getTotalsFromBatchLiquidate).
        """
        del terms
        manager = self._deployment.contracts.manager
        return CallLiquidation(
            manager,
            LIQUIDATE,
            takes_amount=False,
            gainless=not self._deployment.is_coin,
            native=not self._deployment.is_coin,
            together=True,
            viewed=manager,
            view=selector("getTroveDebt(address)"),
        )

    def permissions(self) -> Sequence[Permission]:
        """Return the call that liquidates troves."""
        manager = self._deployment.contracts.manager
        return (AllowedCall(manager, LIQUIDATE, manager),)

    def liquidation_target(self, debt: Address) -> tuple[Address, Address]:
        """Return the trove manager and the debt token."""
        del debt
        return self._deployment.contracts.manager, self._deployment.debt.address

    def backstops(self) -> Sequence[Backstop]:
        """Return what pays for troves: the stability pool; and what is set aside.

        `stability_pool` takes over debts, `stability_pool_collateral` is what it got for them,
        `gas_pool` holds the reserve of every trove, `surplus` is what former owners may claim.
        """
        deployment, system = self._deployment, self._ledger.system
        held = [
            Backstop("stability_pool", deployment.debt, system.deposits),
            Backstop("stability_pool_collateral", deployment.coin, system.deposited_collateral),
        ]
        if self._reserves is not None:
            held.append(Backstop("gas_pool", deployment.debt, self._reserves))
        if self._surplus is not None:
            held.append(Backstop("surplus", deployment.coin, self._surplus))
        return held

    def _judge_code(self) -> None:
        """Stop the market where its code is not the one that is known."""
        codes, self._doubt = self._deployment.codes, ""
        if self._code == (found := fingerprint(codes)):
            self._known = codes
        elif self._code:
            self._doubt = f"its code {found} is not the code that was reviewed, {self._code}"
        else:
            self._doubt = next(iter(doubts(self._known, codes).values()), "")

    def _follow(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._changes = events.changes(ledger, self._deployment.contracts)
