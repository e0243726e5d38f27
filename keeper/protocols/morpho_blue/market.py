"""One Morpho Blue deployment as the keeper follows it: many markets of its own under one name."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from keeper.address import EvmAddress
from keeper.chain.words import WORD, uint
from keeper.errors import ConfigError, InvariantError
from keeper.ports import LegArrays, LegRow, Oracle, Pages, PriceSource, Reader, Terms
from keeper.protocols.morpho_blue import events, screening, snapshot, valuation
from keeper.protocols.morpho_blue.accounts import borrower_of, key_of, number_of
from keeper.protocols.morpho_blue.audit import audit
from keeper.protocols.morpho_blue.bootstrap import check, empty, load
from keeper.protocols.morpho_blue.calls import (
    FLASH_LOAN,
    LIQUIDATE,
    PRE_LIQUIDATE,
    liquidation,
    pre_liquidation,
)
from keeper.protocols.morpho_blue.early import TAKEN, Early, EarlyTerms, find
from keeper.protocols.morpho_blue.ledger import Ledger, Pool
from keeper.protocols.morpho_blue.oracle import Dollars, MorphoOracle
from keeper.protocols.morpho_blue.reading import Reads
from keeper.protocols.morpho_blue.terms import MorphoTerms
from keeper.types import (
    AllowedCall,
    Backstop,
    Call,
    CallLiquidation,
    CallResult,
    Drift,
    FlashKind,
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
from keeper.units import WAD, ZERO_ADDRESS, Address, Hash


def _parse_id(value: object) -> bytes:
    try:
        raw = bytes.fromhex(str(value).removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 32 or not str(value).startswith("0x"):
        raise ValueError("must be a market's id, 0x and 64 hex digits")
    return raw


MarketId = Annotated[
    Hash,
    BeforeValidator(_parse_id),
    PlainSerializer(lambda raw: f"0x{raw.hex()}", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^0x[0-9a-fA-F]{64}$"}),
]
"""A market's id as files hold it; 32 raw bytes inside."""


class MorphoBlue:
    """Follow the markets of one deployment; `bootstrap` loads them before anything else is asked.

    Accounts are keys: the number of the market, then the borrower. A position's market is the name of
    the deployment, a slash, and a short name of the market.
    """

    protocol: str = "morpho-blue"

    class Config(BaseModel):
        """Which deployment, which of its markets, and where dollars come from.

        Without `ids` every market is followed, those created later too. `prices` is an oracle with
        Aave's interface, `feeds` are Chainlink feeds by token, which come first. Without `write_off`
        the last wei of collateral is left where taking it would have bad debt written off.
        `pre_liquidations` are contracts that some borrowers let act before that.
        """

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        morpho: EvmAddress
        ids: frozenset[MarketId] = frozenset()
        prices: EvmAddress | None = None
        feeds: dict[EvmAddress, EvmAddress] = Field(default_factory=dict)
        write_off: bool = True
        pre_liquidations: tuple[EvmAddress, ...] = ()

        @model_validator(mode="after")
        def _is_priced(self) -> Self:
            if self.prices is None and not self.feeds:
                raise ValueError("needs prices or feeds: what a loan token is worth in dollars")
            return self

    def __init__(
        self,
        market: str,
        config: Config,
        first_block: int = 0,
        early: Sequence[EarlyTerms] = (),
    ) -> None:
        self.market = market
        self._early = tuple(early)
        self._morpho = config.morpho
        self._ids = config.ids
        self._spare = 0 if config.write_off else 1
        self._first_block = first_block
        self._ledger = empty(market, self._early)
        self._reads = Reads(self._ledger, self._morpho)
        self._prices = MorphoOracle(market, self._places, Dollars(config.prices, config.feeds))
        self._terms = -1
        self._watch = Watch(frozenset(), frozenset())
        self._tokens: dict[Address, Token] = {}
        self._numbers: dict[str, int] = {}

    @classmethod
    async def discover(
        cls, reader: Reader, market: str, config: Config, head: Head, first_block: int = 0
    ) -> Self:
        """Find a deployment; raise `ConfigError` when there is none, or a market is not there.

        `first_block` is any block up to the deployment's own; logs are read from it.
        """
        await check(reader, config.morpho, sorted(config.ids), head)
        early = await find(reader, config.morpho, config.pre_liquidations, head)
        for each in early:
            if config.ids and each.id not in config.ids:
                raise ConfigError(
                    f"market {market}: pre-liquidation 0x{each.contract.hex()} is of market "
                    f"0x{each.id.hex()}, which is not among ids",
                    "add that id, or leave the contract out",
                )
        return cls(market, config, first_block, early)

    @property
    def oracle(self) -> Oracle:
        """Return the markets' prices."""
        return self._prices

    async def sources(self, reader: Reader, head: Head) -> Sequence[PriceSource]:
        """Return the dollars of tokens, and the oracles of the markets that are named.

        Without `ids` its markets are found in logs, once it is loaded.
        """
        return await self._prices.sources(reader, head, self._morpho, sorted(self._ids))

    @property
    def stopped(self) -> str:
        """Return nothing: the code of a deployment is never replaced."""
        return ""

    async def bootstrap(self, reader: Reader, head: Head) -> None:
        """Load every market and borrower as of exactly this head."""
        found = await load(
            reader, self.market, self._morpho, self._ids, self._early, head, self._first_block
        )
        self._follow(found)
        self.observe(await reader.multicall(self.calls(), head.hash), head)

    def place(self, account: Address) -> str:
        """Return the name of the market an account is of."""
        return valuation.name_of(self._ledger, number_of(account))

    def account(self, position: Position) -> Address:
        """Return the account a position is of."""
        return key_of(valuation.state_of(position).number, position.borrower)

    def place_told(self, log: Log) -> str:
        """Return the name of the market, or of the contract in it, a liquidation's log is of."""
        early = self._early_of(log)
        number = early.number if early else self._ledger.pools[Hash(log.topics[1])].number
        return valuation.name_of(self._ledger, number)

    def liquidation(self, log: Log) -> tuple[Address, Address, Address, int, int, Address] | None:
        """Return borrower, debt, collateral, repaid, seized and liquidator, None for another log.

        Of a pre-liquidation its contract tells, as Morpho does of others.
        """
        is_own = log.address == self._morpho and log.topics[:1] == (events.LIQUIDATE,)
        if not is_own and self._early_of(log) is None:
            return None
        pool = self._ledger.pools.get(Hash(log.topics[1]))
        if pool is None:
            return None
        caller, borrower = (Address(log.topics[place][12:]) for place in (2, 3))
        loan, collateral = pool.terms.loan, pool.terms.collateral
        return borrower, loan, collateral, uint(log.data), uint(log.data, 2), caller

    def liquidation_logs(self) -> Watch:
        """Return Morpho's own event, and that of pre-liquidation contracts."""
        contracts = {each.contract for each in self._early}
        return Watch(frozenset({self._morpho, *contracts}), frozenset({events.LIQUIDATE, TAKEN}))

    def original(self, account: Address) -> Address | None:
        """Return the account in its market that one of a pre-liquidation contract shows."""
        pool, early = self._ledger.pool_of(number_of(account))
        return None if early is None else key_of(pool.number, borrower_of(account))

    def account_in(self, place: str, borrower: Address) -> Address | None:
        """Return a borrower's account in the market of a name; None when there is no such market."""
        self._refresh()
        number = self._numbers.get(place)
        return None if number is None else key_of(number, borrower)

    def worth(self, prices: Prices) -> NDArray[np.float64]:
        """Return by class what the loan token's smallest unit is worth."""
        return screening.worth(self._ledger, prices)

    def rates(self, prices: Prices) -> Mapping[str, tuple[Token, Token, int]]:
        """Return what each market's own oracle says of its collateral, in its loan token."""
        return valuation.rates_down(self._ledger, prices)

    def moved(self, prices: Prices, multiples: Mapping[Address, float]) -> Prices:
        """Return the prices of tokens, and each market's own by its collateral's over its loan's."""
        return valuation.moved(self._ledger, prices, multiples)

    def plain(self, position: Position, prices: Prices) -> tuple[Position, Prices]:
        """Return the position, and prices with its collateral at what the market's oracle says."""
        return position, valuation.plain(self._ledger, position, prices)

    def watch(self) -> Watch:
        """Return Morpho, the rate models of its markets, and pre-liquidation contracts."""
        self._refresh()
        return self._watch

    def fold(self, log: Log) -> Undo | None:
        """Apply one log; raise `UndecodableError` when it makes no sense."""
        undos = self._created(log) or events.apply(self._ledger, self._morpho, log)
        return partial(_take_back, undos) if undos else None

    async def audit(self, reader: Reader, head: Head, sample: int, seed: int) -> list[Drift]:
        """Compare every market's totals and a random sample of borrowers with the chain."""
        return await audit(reader, self._ledger, self._morpho, head, sample, seed)

    def snapshot(self) -> Pages:
        """Freeze the ledger and return what encodes it."""
        head = snapshot.header(self._ledger, self._morpho)
        return partial(snapshot.pages, head, self._ledger.accounts.freeze())

    def restore(self, pages: Iterable[bytes]) -> None:
        """Replace the ledger by a snapshot's; raise `InvariantError` when it cannot be read."""
        found = snapshot.restored(pages, empty(self.market, self._early), self._morpho)
        if self._ids and found.pools.keys() != self._ids:
            raise InvariantError(self.market, "the snapshot is of other markets")
        self._follow(found)

    def calls(self) -> Sequence[Call]:
        """Return reads of what events do not tell: balances to lend, rates, new tokens."""
        return self._reads.calls()

    def observe(self, results: Sequence[CallResult], head: Head) -> None:
        """Take the answers to the last `calls`."""
        self._reads.take(results, head)

    def tokens(self) -> Mapping[Address, Token]:
        """Return the tokens lent and put up."""
        self._refresh()
        return self._tokens

    def borrowers(self) -> int:
        """Return how many accounts have debt."""
        return self._ledger.debtors

    def changed(self) -> set[Address]:
        """Return and forget the accounts whose legs changed."""
        changed, self._ledger.touched = self._ledger.touched, set()
        return changed

    def legs(self, borrower: Address) -> tuple[Sequence[LegRow], Sequence[LegRow]]:
        """Return collateral and borrow shares, both under the market's number."""
        return screening.legs(self._ledger, borrower)

    def all_legs(self) -> Callable[[], LegArrays]:
        """Freeze every account's legs and return what gathers them, to be called off the loop."""
        self._ledger.touched = set()
        early = [
            (each.number, pool.number, frozenset(each.authorisers))
            for pool, each in self._places()
            if each is not None
        ]
        return partial(screening.gather, self._ledger.accounts.freeze(), early)

    def factors(
        self, prices: Prices, at: NextBlock
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return, in the loan token, what collateral lets owe and what a share owes, with interest.

        Where an oracle cannot be read, what it said last tells who is far from the threshold.
        """
        known: dict[int, int] = {}
        for pool, early in self._places():
            key = valuation.oracle_key(early or pool)
            price = prices.get(key) or self._prices.last.get(key)
            if price:
                known[(early or pool).number] = price
        return screening.factors(self._ledger, known, at.timestamp)

    def position(self, borrower: Address, prices: Prices, at: NextBlock) -> Position | None:
        """Return an account's position as Morpho sees it in that block."""
        return valuation.position(self._ledger, self.protocol, borrower, prices, at.timestamp)

    def pairs(
        self, position: Position, prices: Prices, at: NextBlock
    ) -> tuple[Sequence[MorphoTerms], Sequence[Skip]]:
        """Return the one pair when it is open to liquidation, or why it is not."""
        del at
        if position.health >= WAD:
            return [], []
        pool, early = self._ledger.pool_of(valuation.state_of(position).number)
        price = prices.get(valuation.oracle_key(early or pool))
        base = prices.get(pool.terms.loan)

        def skip(reason: Reason, why: str) -> list[Skip]:
            return [Skip(position.market, self.protocol, position.borrower, reason, why)]

        if not price or not base:
            return [], skip(Reason.NO_PRICE, "a price of the pair was not read")
        found = valuation.terms(pool, early, position, price, base, spare=self._spare)
        if found is None:
            return [], skip(Reason.DUST, "no collateral is left to seize")
        return [found], []

    def after(self, position: Position, terms: Terms, repay: int) -> Position:
        """Return what a legal call on the position's pair leaves of it, in the same block."""
        found = self._own(terms)
        pool, early = self._ledger.pool_of(valuation.state_of(position).number)
        return valuation.after(position, pool, early, found, repay)

    def withdrawable(self, token: Address) -> int | None:
        """Return what Morpho holds of a token it lends, None when it was not read."""
        return self._reads.balances.get(token)

    def flash_sources(self, token: Address) -> Sequence[FlashSource]:
        """Return Morpho's own flash loan of all it holds, which costs nothing (Morpho.flashLoan)."""
        held = self._reads.balances.get(token)
        return (FlashSource(FlashKind.MORPHO, self._morpho, token, held, 0),) if held else ()

    def execution(self, terms: Terms) -> CallLiquidation:
        """Return a call of Morpho's, the debt proven by the borrow shares."""
        found = self._own(terms)
        pool = self._ledger.pools[found.id]
        if found.contract:
            return pre_liquidation(self._morpho, pool, found.contract)
        return liquidation(self._morpho, pool, found.way)

    def permissions(self) -> Sequence[Permission]:
        """Return liquidations and flash loans, and each pre-liquidation contract's call."""
        return (
            *(AllowedCall(self._morpho, each, self._morpho) for each in (LIQUIDATE, FLASH_LOAN)),
            *(AllowedCall(e.contract, PRE_LIQUIDATE, e.contract) for e in self._early),
        )

    def liquidation_target(self, debt: Address) -> tuple[Address, Address]:
        """Return Morpho twice: it keeps the debts itself."""
        del debt
        return self._morpho, self._morpho

    def backstops(self) -> Sequence[Backstop]:
        """Return by loan token the bad debt that lenders have borne (Morpho.liquidate)."""
        totals: dict[Token, int] = {}
        for pool in self._ledger.numbered:
            if pool.loan is not None:
                totals[pool.loan] = totals.get(pool.loan, 0) + pool.totals.bad_debt
        return tuple(Backstop("bad_debt", token, amount) for token, amount in totals.items())

    def _places(self) -> Sequence[tuple[Pool, Early | None]]:
        """Return every market, and every pre-liquidation contract with its market."""
        ledger = self._ledger
        return [
            *((pool, None) for pool in ledger.numbered),
            *((pool, each) for each in ledger.early if (pool := ledger.pools.get(each.terms.id))),
        ]

    def _early_of(self, log: Log) -> Early | None:
        """Return the contract a log is of, where that tells of a pre-liquidation."""
        if log.topics[:1] != (TAKEN,) or len(log.topics) != 4 or len(log.data) != 3 * WORD:
            return None
        return next(
            (
                each
                for each in self._ledger.early
                if each.terms.contract == log.address and each.terms.id == log.topics[1]
            ),
            None,
        )

    def _own(self, terms: Terms) -> MorphoTerms:
        if not isinstance(terms, MorphoTerms):
            raise InvariantError(self.market, "these terms are another protocol's")
        return terms

    def _created(self, log: Log) -> list[Undo]:
        """List a market that was created; one that is not among the ids is nobody's."""
        if log.address != self._morpho or log.topics[:1] != (events.CREATE,):
            return []
        try:
            found = events.created(log)
        except ValueError as error:
            raise events.undecodable(self._ledger, log, "CreateMarket", str(error)) from error
        identity = Hash(log.topics[1])
        if self._ids and identity not in self._ids:
            return []
        undo = self._ledger.create(identity, found)
        pool = self._ledger.pools[identity]
        pool.totals = replace(pool.totals, updated_at=log.timestamp)
        return [undo]

    def _follow(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._reads = Reads(ledger, self._morpho)
        self._terms = -1
        self._refresh()

    def _refresh(self) -> None:
        """Recompute what follows from the list of markets, when that changed."""
        ledger = self._ledger
        if self._terms == ledger.terms:
            return
        self._terms = ledger.terms
        named = [token for pool in ledger.numbered for token in (pool.loan, pool.collateral)]
        self._tokens = {token.address: token for token in named if token is not None}
        numbers = [(early or pool).number for pool, early in self._places()]
        self._numbers = {valuation.name_of(ledger, number): number for number in numbers}
        models = {pool.terms.irm for pool in ledger.numbered} - {ZERO_ADDRESS}
        contracts = {each.contract for each in self._early}
        watched = frozenset({self._morpho, *models, *contracts})
        if watched != self._watch.addresses:
            self._watch = Watch(watched, events.TOPICS | ({TAKEN} if contracts else frozenset()))


def _take_back(undos: Sequence[Undo]) -> None:
    for undo in reversed(undos):
        undo()
