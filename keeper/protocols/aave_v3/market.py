"""One Aave v3 market as the keeper follows it."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from keeper.address import EvmAddress
from keeper.chain.entries import Entry
from keeper.chain.words import read, text, uint
from keeper.errors import InvariantError
from keeper.oracles.aave_oracle import AaveOracle
from keeper.ports import LegArrays, LegRow, Oracle, Pages, PriceSource, Reader, Terms, Told
from keeper.protocols.aave_v3 import events, restoring, screening, snapshot, valuation
from keeper.protocols.aave_v3.aftermath import after
from keeper.protocols.aave_v3.audit import audit
from keeper.protocols.aave_v3.balances import Step, take_back
from keeper.protocols.aave_v3.bootstrap import (
    form_calls,
    load,
    tells_amounts,
    token_rules,
    unknown_form,
    unknown_rules,
)
from keeper.protocols.aave_v3.deployment import Deployment, find
from keeper.protocols.aave_v3.eras import ERAS
from keeper.protocols.aave_v3.ledger import Ledger
from keeper.protocols.aave_v3.liquidation import LIQUIDATION, read_liquidation
from keeper.protocols.aave_v3.pairs import pairs
from keeper.protocols.aave_v3.rates import Rates
from keeper.protocols.aave_v3.raw_fold import RawFold
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.sentinel import Sentinel
from keeper.protocols.aave_v3.terms import AaveTerms
from keeper.protocols.aave_v3.v36 import HEALTHY
from keeper.types import (
    AllowedCall,
    Backstop,
    Call,
    CallResult,
    Drift,
    FlashKind,
    FlashSource,
    Head,
    Log,
    NextBlock,
    Permission,
    PoolLiquidation,
    Position,
    Prices,
    Reason,
    Skip,
    Token,
    Undo,
    Watch,
)
from keeper.units import ZERO_ADDRESS, Address

PPM_PER_BPS = 100
LIQUIDATION_CALL = bytes.fromhex("00a718a9")
FLASH_LOAN = bytes.fromhex("42b0b77c")

Take = Callable[[Sequence[CallResult]], None]


class AaveV3:
    """Follow one Aave v3 market; `bootstrap` loads it before anything else is asked."""

    protocol: str = "aave-v3"

    def __init__(
        self,
        market: str,
        deployment: Deployment,
        oracle: Oracle,
        first_block: int = 0,
        era: str = "",
    ) -> None:
        self.market = market
        self.oracle = oracle
        self._deployment = deployment
        self._first_block = first_block
        self._era = era
        self._ledger = Ledger(market, era=deployment.era)
        self._sentinel: Sentinel | None = None
        self._asked: tuple[tuple[int, Take], ...] = ()
        self._factors = screening.Factors()
        self._terms = -1
        self._rates = Rates(self._ledger)
        self._changes: events.Changes = {}
        self._raw: RawFold | None = None
        self._watch = Watch(frozenset(), frozenset())
        self._tokens: dict[Address, Token] = {}

    class Config(BaseModel):
        """Which market: its pool, and for a fork the version of Aave v3 whose rules it has."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        pool: EvmAddress
        era: Literal["", "3.0", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7"] = ""

    @classmethod
    async def discover(
        cls, reader: Reader, market: str, config: Config, head: Head, first_block: int = 0
    ) -> Self:
        """Find a market from its pool; raise `ConfigError` when there is no Aave v3 pool.

        `first_block` is any block up to the pool's first use; logs are read from it.
        """
        deployment = await find(reader, config.pool, head, config.era)
        oracle = AaveOracle(
            market, config.pool, deployment.provider, deployment.configurator, deployment.oracle
        )
        return cls(market, deployment, oracle, first_block, config.era)

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Load every reserve and holder as of exactly this head."""
        deployment = await find(reader, self._deployment.pool, head)
        if self._era:
            was, doubt = self._deployment.revision, ""
            if deployment.revision != was:
                doubt = f"pool revision {was} became {deployment.revision}: set its `era`, restart"
            rules = deployment.era if doubt else ERAS[self._era]
            deployment = replace(deployment, revision=was, era=rules, doubt=doubt)
        ledger = await load(reader, self.market, deployment, head, self._first_block)
        if deployment.doubt:
            ledger.stop(deployment.doubt)
        before = self._ledger.accounts
        self._follow(deployment, ledger)
        await asyncio.to_thread(before.release)
        calls = self.calls()
        self.observe(await reader.multicall(calls, head.hash), head)

    @property
    def revision(self) -> int:
        """Return the pool's revision; 10 is v3.6."""
        return self._deployment.revision

    def liquidation(self, log: Log) -> Told | None:
        """Return what a log tells of a liquidation here, None when it tells of something else."""
        return read_liquidation(log, self._deployment.pool)

    def liquidation_logs(self) -> Watch:
        """Return the pool's own event."""
        return Watch(frozenset({self._deployment.pool}), frozenset({LIQUIDATION}))

    @property
    def stopped(self) -> str:
        """Return why the market is only watched, empty when it is not."""
        return self._ledger.stopped

    async def sources(self, reader: Reader, head: Head) -> Sequence[PriceSource]:
        """Return what the market's oracle reads each reserve's price from."""
        oracle = self.oracle
        return await oracle.sources(reader, head) if isinstance(oracle, AaveOracle) else ()

    def watch(self) -> Watch:
        """Return every contract whose events change a position."""
        self._refresh()
        return self._watch

    def fold(self, log: Log) -> Undo | None:
        """Apply one log; raise `InvariantError` for this market when it cannot be right."""
        undos: list[Undo] = []
        self.fold_all(iter((log,)), undos)
        return undos[0] if undos else None

    def fold_all(self, logs: Iterator[Log], undos: list[Undo]) -> None:
        """Apply logs in order and append what takes them back, the ones before a refused one too."""
        ledger, steps = self._ledger, list[Step]()
        try:
            for log in logs:
                if self._terms != ledger.terms:
                    steps += self._rates.write()
                    self._refresh()
                try:
                    change = self._changes[log.address][log.topics[0]]
                except LookupError:
                    continue
                try:
                    step = change(log)
                except (ArithmeticError, LookupError, ValueError) as error:
                    raise events.undecodable(self.market, log, str(error)) from error
                if step is not None:
                    steps.append(step)
        finally:
            steps += self._rates.write()
            if steps:
                undos.append(partial(take_back, steps))

    def fold_raw(self, entries: Sequence[Entry], timestamp: int, undos: list[Undo]) -> bool:
        """Apply a block's logs if all are plain; False, and nothing changed, when they are not."""
        if self._ledger.era.rounds_balances or not timestamp:
            return False
        self._refresh()
        if self._raw is None:
            self._raw = RawFold(self._ledger, self._deployment.pool, self._changes)
        return self._raw.fold(entries, timestamp, undos)

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare terms, reserves and a random sample of holders with the chain."""
        return await audit(reader, self._ledger, self._deployment, head, sample, seed)

    def snapshot(self) -> Pages:
        """Freeze the ledger and return what encodes it."""
        head = snapshot.header(self._ledger, self._contracts(), self._deployment.revision)
        return partial(snapshot.pages, head, self._ledger.accounts.freeze())

    def restore(self, pages: Iterable[bytes]) -> None:
        """Replace the ledger by a snapshot's; raise `InvariantError` when it cannot be read.

        A pool whose code was replaced since stays stopped until its state is read again.
        """
        ledger, revision = restoring.read(
            pages, self.market, self._contracts(), self._deployment.era
        )
        now = self._deployment.revision
        if self._deployment.doubt:
            ledger.stop(self._deployment.doubt)
        elif revision != now and not ledger.stopped:
            ledger.stop(f"the pool's revision was {revision} in the snapshot and is {now}")
        before = self._ledger.accounts
        self._follow(self._deployment, ledger)
        before.release()

    def calls(self) -> Sequence[Call]:
        """Return reads of what events do not tell: liquidity, new tokens, the sentinel."""
        calls: list[Call] = []
        asked: list[tuple[int, Take]] = []
        pool = self._deployment.pool
        for reserve in self._ledger.reserves.values():
            wanted = [read(reserve.asset, "balanceOf(address)", reserve.supply_token)]
            if reserve.era.has_virtual_balance:
                wanted.append(read(pool, "getVirtualUnderlyingBalance(address)", reserve.asset))
            if reserve.token is None:
                wanted.append(read(reserve.asset, "symbol()"))
                wanted.append(read(pool, "getConfiguration(address)", reserve.asset))
                wanted += [read(token, name) for token, name, _ in token_rules(reserve)]
                if reserve.era.rounds_balances:
                    wanted += form_calls(reserve.supply_token)
            calls.extend(wanted)
            asked.append((len(wanted), self._take_reserve(reserve)))
        sentinel = self._current_sentinel()
        if sentinel is not None:
            wanted = sentinel.calls()
            calls.extend(wanted)
            asked.append((len(wanted), self._take_sentinel(sentinel)))
        self._asked = tuple(asked)
        return calls

    def observe(self, results: Sequence[CallResult], head: Head) -> None:
        """Take the answers to the last `calls`."""
        del head  # the answers replace each other
        start = 0
        for count, take in self._asked:
            take(results[start : start + count])
            start += count

    def tokens(self) -> Mapping[Address, Token]:
        """Return the underlying tokens by address."""
        self._refresh()
        return self._tokens

    def borrowers(self) -> int:
        """Return how many holders have debt."""
        return self._ledger.borrowers

    def changed(self) -> set[Address]:
        """Return and forget the borrowers whose legs changed."""
        changed, self._ledger.touched = self._ledger.touched, set()
        return changed

    def legs(self, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
        """Return flagged collateral by class, and debt by reserve id."""
        return screening.legs(self._ledger, borrower)

    def all_legs(self) -> Callable[[], LegArrays]:
        """Freeze every borrower's legs and return what gathers them, to be called off the loop."""
        self._ledger.touched = set()
        shards = self._ledger.accounts.freeze()
        stable = frozenset(self._ledger.stable)
        return partial(screening.gather, shards, self._ledger.classes.table(), stable)

    def factors(
        self, prices: Prices, at: NextBlock
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return base value per scaled unit, with interest to the block.

        Collateral is by class and weighted by its threshold, debt is by reserve id.
        """
        return self._factors.at(self._ledger, prices, at.timestamp)

    def position(self, borrower: Address, prices: Prices, at: NextBlock) -> Position | None:
        """Return what Pool.getUserAccountData says in that block, with its parts."""
        return valuation.position(self._ledger, self.protocol, borrower, prices, at.timestamp)

    def pairs(
        self, position: Position, prices: Prices, at: NextBlock
    ) -> tuple[Sequence[AaveTerms], Sequence[Skip]]:
        """Return the terms of every pair open to liquidation, and refusals for the others."""
        if self._ledger.stopped:
            denied = Reason.DENIED
            why = self._ledger.stopped
            return [], [Skip(self.market, self.protocol, position.borrower, denied, why)]
        if position.borrower in self._ledger.stable and position.health < HEALTHY:
            why = "it has a debt at a stable rate, of which it is not liquidated here"
            skip = Skip(self.market, self.protocol, position.borrower, Reason.DENIED, why)
            return [], [skip]
        return pairs(self._ledger, position, prices, at.timestamp, self._current_sentinel())

    def after(self, position: Position, terms: Terms, repay: int) -> Position:
        """Return what a legal call on one of the position's pairs leaves of it, in the same block."""
        if not isinstance(terms, AaveTerms):
            raise InvariantError(self.market, "these terms are another protocol's")
        return after(position, terms, repay)

    def withdrawable(self, token: Address) -> int | None:
        """Return the underlying that a reserve holds, None when it was not read."""
        reserve = self._ledger.by_asset.get(token)
        return None if reserve is None else reserve.available

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        """Return the pool's own flash loan (ValidationLogic.validateFlashloanSimple)."""
        reserve = self._ledger.by_asset.get(token)
        if reserve is None or self._ledger.stopped or not reserve.is_active:
            return ()
        if reserve.is_paused or not reserve.is_flash_enabled or not reserve.available:
            return ()
        supplied = self._ledger.era.supply_balance(reserve.scaled_supply, reserve.liquidity_index)
        fee = self._ledger.flash_premium * PPM_PER_BPS
        available = min(reserve.available, supplied)
        return (FlashSource(FlashKind.AAVE, self._deployment.pool, token, available, fee),)

    def execution(self, terms: Terms) -> PoolLiquidation:
        """Return a call of the pool's, its debt proven by the variable debt token."""
        debt = self._ledger.by_asset[terms.debt.address]
        return PoolLiquidation(self._deployment.pool, debt.debt_token)

    def permissions(self) -> Sequence[Permission]:
        """Return the pool's liquidations and flash loans."""
        pool = self._deployment.pool
        return tuple(
            AllowedCall(pool, selector, pool) for selector in (LIQUIDATION_CALL, FLASH_LOAN)
        )

    def liquidation_target(self, debt: Address) -> tuple[Address, Address]:
        """Return the pool and the variable debt token."""
        return self._deployment.pool, self._ledger.by_asset[debt].debt_token

    def backstops(self) -> Sequence[Backstop]:
        """Return every reserve's deficit (Pool.getReserveDeficit), none before v3.3."""
        if not self._ledger.era.has_deficit:
            return ()
        return tuple(
            Backstop("deficit", reserve.token, reserve.deficit)
            for reserve in self._ledger.reserves.values()
            if reserve.token is not None
        )

    def _contracts(self) -> dict[str, Address]:
        deployment = self._deployment
        return {
            "pool": deployment.pool,
            "provider": deployment.provider,
            "configurator": deployment.configurator,
        }

    def _follow(self, deployment: Deployment, ledger: Ledger) -> None:
        self._deployment, self._ledger = deployment, ledger
        self._factors = screening.Factors()
        self._sentinel = None
        self._terms = -1
        self._refresh()

    def _refresh(self) -> None:
        """Recompute what follows from the list of reserves, when that may have changed."""
        ledger = self._ledger
        if self._terms == ledger.terms:
            return
        self._terms = ledger.terms
        self._tokens = {
            reserve.asset: reserve.token
            for reserve in ledger.reserves.values()
            if reserve.token is not None
        }
        deployment = self._deployment
        self._rates, self._raw = Rates(ledger), None
        self._changes = events.changes(
            ledger, self._rates, deployment.pool, deployment.configurator, deployment.provider
        )
        watched, topics = frozenset(self._changes), events.topics(ledger)
        if (watched, topics) != (self._watch.addresses, self._watch.topics):
            self._watch = Watch(watched, topics)

    def _current_sentinel(self) -> Sentinel | None:
        contract = self._ledger.sentinel
        if contract == ZERO_ADDRESS or not self._ledger.era.has_sentinel:
            return None
        if self._sentinel is None or self._sentinel.contract != contract:
            self._sentinel = Sentinel(contract)
        return self._sentinel

    def _take_sentinel(self, sentinel: Sentinel) -> Take:
        def take(results: Sequence[CallResult]) -> None:
            self._sentinel = sentinel.renewed(results)

        return take

    def _take_reserve(self, reserve: Reserve) -> Take:
        def take(results: Sequence[CallResult]) -> None:
            answers = [uint(r.data) if r.ok and len(r.data) == 32 else None for r in results[:2]]
            reserve.cash, *rest = answers[: 1 + reserve.era.has_virtual_balance]
            reserve.virtual_balance = rest[0] if rest else None
            told = results[1 + len(rest) :]
            if not told or reserve.token is not None:
                return
            symbol, configuration, *revisions = told
            if reserve.era.rounds_balances:
                form, revisions = tells_amounts(revisions[-2:]), revisions[:-2]
                if form is None:
                    raise InvariantError(self.market, unknown_form(reserve.supply_token))
                if form != reserve.tells_amounts:
                    reserve.tells_amounts = form
                    self._ledger.terms += 1
            for (token, _, known), revision in zip(token_rules(reserve), revisions, strict=True):
                if why := unknown_rules(token, known, revision):
                    raise InvariantError(self.market, why)
            if symbol.ok and configuration.ok and len(configuration.data) == 32:
                decimals = uint(configuration.data) >> 48 & 0xFF
                reserve.configuration |= decimals << 48
                reserve.token = Token(reserve.asset, text(symbol.data), decimals)
                self._ledger.terms += 1

        return take
