"""What events do not tell of Morpho's markets, read at each head."""

from collections.abc import Callable, Sequence

from keeper.chain.words import answered, read, selector, uint, word
from keeper.protocols.morpho_blue.bootstrap import name, naming, unnamed
from keeper.protocols.morpho_blue.ledger import Ledger, Pool
from keeper.protocols.morpho_blue.pauses import Pauses
from keeper.protocols.morpho_blue.rates import adaptive_rate
from keeper.types import Call, CallResult, Head
from keeper.units import ZERO_ADDRESS, Address, Hash

RATE_VIEW = selector(
    "borrowRateView((address,address,address,address,uint256),"
    "(uint128,uint128,uint128,uint128,uint128,uint128))"
)
Take = Callable[[Sequence[CallResult], Head], None]


class Reads:
    """Loanable balances, rates of models that are not the adaptive one, names of new tokens.

    A model is the adaptive one when it answers as that one would; every market's is tried once.
    """

    def __init__(self, ledger: Ledger, morpho: Address) -> None:
        self._ledger = ledger
        self._morpho = morpho
        self._tried: set[Hash] = set()
        self._pauses = Pauses()
        self._asked: tuple[tuple[int, Take], ...] = ()
        self.balances: dict[Address, int | None] = {}

    def calls(self) -> list[Call]:
        """Return the reads of one head."""
        pools = self._ledger.numbered
        due = self._pauses.is_due
        missing = [token for token in unnamed(pools) if due(token)]
        loans = sorted({pool.terms.loan for pool in pools if pool.debtors and due(pool.terms.loan)})
        rated = [
            pool
            for pool in pools
            if pool.terms.irm != ZERO_ADDRESS
            and (pool.id not in self._tried or (pool.debtors and not pool.adaptive))
        ]
        parts: list[tuple[list[Call], Take]] = [
            (
                [read(each, "balanceOf(address)", self._morpho) for each in loans],
                lambda results, _: self._take_balances(loans, results),
            ),
            ([_rate_call(each) for each in rated], lambda *told: self._take_rates(rated, *told)),
            (naming(missing), lambda results, _: self._take_names(missing, results)),
        ]
        self._asked = tuple((len(calls), take) for calls, take in parts)
        return [call for calls, _ in parts for call in calls]

    def take(self, results: Sequence[CallResult], head: Head) -> None:
        """Take the answers to the last `calls`."""
        start = 0
        for count, take in self._asked:
            take(results[start : start + count], head)
            start += count
        self._pauses.pass_head()

    def _take_names(self, missing: Sequence[Address], results: Sequence[CallResult]) -> None:
        name(self._ledger, missing, results)
        for token in unnamed(self._ledger.numbered):
            if token in missing:
                self._pauses.noted(token, is_told=False)

    def _take_balances(self, loans: Sequence[Address], results: Sequence[CallResult]) -> None:
        self.balances = {
            loan: uint(result.data) if self._pauses.noted(loan, is_told=answered(result)) else None
            for loan, result in zip(loans, results, strict=True)
        }

    def _take_rates(self, rated: Sequence[Pool], results: Sequence[CallResult], head: Head) -> None:
        for pool, result in zip(rated, results, strict=True):
            pool.rate = uint(result.data) if answered(result) else None
            if pool.id in self._tried or pool.rate is None:
                continue
            self._tried.add(pool.id)
            now = pool.totals
            if now.rate_at_target:
                elapsed = head.timestamp - now.updated_at
                known, _ = adaptive_rate(
                    now.supply_assets, now.borrow_assets, now.rate_at_target, elapsed
                )
                pool.adaptive = known == pool.rate


def _rate_call(pool: Pool) -> Call:
    now = pool.totals
    state = (
        now.supply_assets,
        now.supply_shares,
        now.borrow_assets,
        now.borrow_shares,
        now.updated_at,
        now.fee,
    )
    return Call(pool.terms.irm, RATE_VIEW + pool.terms.words + b"".join(map(word, state)))
