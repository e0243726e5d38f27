"""Fold one log of the system into its ledger, and return what takes it back.

The contracts tell of every trove they change but for one thing: interest added to a trove that
nothing else happens to (`updateSystemAndTroveInterest`, or a healthy trove in a batch) is not told.
Each such time rounds down once more than here, by less than a wei.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from keeper.chain.words import topic, uints
from keeper.errors import UndecodableError
from keeper.protocols.liquity_v1 import rules
from keeper.protocols.liquity_v1.ledger import Ledger, Trove
from keeper.protocols.liquity_v1.words import subject
from keeper.types import Log, Undo
from keeper.units import Address

TROVE_UPDATED = topic("TroveUpdated(address,uint256,uint256,uint256,uint256,uint8)")
TROVE_LIQUIDATED = topic("TroveLiquidated(address,uint256,uint256,uint8)")
TOTALS = topic("LTermsUpdated(uint256,uint256,uint256)")
STAKES = topic("TotalStakesUpdated(uint256)")
SNAPSHOTS = topic("SystemSnapshotsUpdated(uint256,uint256)")
ACTIVE_DEBT = topic("ActivePoolDebtUpdated(uint256,uint256)")
ACTIVE_COLLATERAL = topic("ActivePoolCollateralBalanceUpdated(uint256)")
DEFAULT_DEBT = topic("DefaultPoolDebtUpdated(uint256,uint256)")
DEFAULT_COLLATERAL = topic("DefaultPoolCollateralBalanceUpdated(uint256)")
DEPOSITS = topic("StabilityPoolMUSDBalanceUpdated(uint256)")
DEPOSITED_COLLATERAL = topic("StabilityPoolCollateralBalanceUpdated(uint256)")
NUMERATOR = topic("InterestNumeratorChanged(uint256)")
RATE = topic("InterestRateUpdated(uint16)")
UPGRADED = topic("Upgraded(address)")
TOPICS = frozenset(
    {
        TROVE_UPDATED,
        TROVE_LIQUIDATED,  # it changes nothing that other logs do not, and says who was liquidated
        TOTALS,
        STAKES,
        SNAPSHOTS,
        ACTIVE_DEBT,
        ACTIVE_COLLATERAL,
        DEFAULT_DEBT,
        DEFAULT_COLLATERAL,
        DEPOSITS,
        DEPOSITED_COLLATERAL,
        NUMERATOR,
        RATE,
        UPGRADED,
    }
)
OPEN, CLOSE, ADJUST, REFINANCE = range(4)
"""BorrowerOperations.BorrowerOperation."""
APPLY, LIQUIDATE, REDEEM = range(3)
"""TroveManager.TroveManagerOperation."""


@dataclass(frozen=True, slots=True)
class Contracts:
    """The system's contracts that are followed."""

    manager: Address
    operations: Address
    active_pool: Address
    default_pool: Address
    stability_pool: Address
    surplus_pool: Address
    rates: Address
    feed: Address
    token: Address
    gas_pool: Address

    @property
    def watched(self) -> frozenset[Address]:
        """Return whose logs are followed; all but the token stand behind proxies."""
        return frozenset(
            {
                self.manager,
                self.operations,
                self.active_pool,
                self.default_pool,
                self.stability_pool,
                self.rates,
                self.feed,
            }
        )


Change = Callable[[Log], Undo | None]
Changes = Mapping[tuple[Address, bytes], Change]


def changes(ledger: Ledger, contracts: Contracts) -> Changes:
    """Return by contract and topic what a log does to the ledger."""

    def sums(*names: str) -> Change:
        return lambda log: _set(ledger, dict(zip(names, uints(log.data, len(names)), strict=True)))

    def active_debt(log: Log) -> Undo:
        principal, interest = uints(log.data, 2)
        return _set(
            ledger,
            {
                "active_principal": principal,
                "active_interest": interest,
                "accrued_at": log.timestamp,
            },
        )

    def totals(log: Log) -> Undo:
        undo = sums("collateral_total", "principal_total", "interest_total")(log)
        assert undo is not None
        ledger.touch_all()

        def back() -> None:
            undo()
            ledger.touch_all()

        return back

    by_manager = {APPLY: _applied, LIQUIDATE: _ended, REDEEM: _redeemed}
    by_owner = {OPEN: _opened, CLOSE: _ended, ADJUST: _adjusted, REFINANCE: _refinanced}
    found: dict[tuple[Address, bytes], Change] = {
        (contracts.manager, TROVE_UPDATED): lambda log: _trove(ledger, log, by_manager),
        (contracts.operations, TROVE_UPDATED): lambda log: _trove(ledger, log, by_owner),
        (contracts.manager, TOTALS): totals,
        (contracts.manager, STAKES): sums("stakes"),
        (contracts.manager, SNAPSHOTS): sums("stakes_snapshot", "collateral_snapshot"),
        (contracts.active_pool, ACTIVE_DEBT): active_debt,
        (contracts.active_pool, ACTIVE_COLLATERAL): sums("active_collateral"),
        (contracts.default_pool, DEFAULT_DEBT): sums("default_principal", "default_interest"),
        (contracts.default_pool, DEFAULT_COLLATERAL): sums("default_collateral"),
        (contracts.stability_pool, DEPOSITS): sums("deposits"),
        (contracts.stability_pool, DEPOSITED_COLLATERAL): sums("deposited_collateral"),
        (contracts.rates, NUMERATOR): sums("numerator"),
        (contracts.rates, RATE): sums("rate"),
    }
    for contract in contracts.watched:
        found[contract, UPGRADED] = lambda log: _upgraded(ledger, log)
    return found


def undecodable(market: str, log: Log, why: str) -> UndecodableError:
    """Return the error for a log that makes no sense."""
    return UndecodableError(
        market, f"log {log.index} of block {log.block_number} makes no sense: {why}"
    )


@dataclass(frozen=True, slots=True)
class _Told:
    """What a TroveUpdated says, and the trove before it."""

    before: Trove | None
    principal: int
    interest: int
    collateral: int
    stake: int
    timestamp: int

    def known(self) -> Trove:
        if self.before is None:
            raise ValueError("its trove is not there")
        return self.before

    def kept(self, **more: int) -> Trove:
        """Return the trove with what was told, and interest added to now."""
        told = {
            "principal": self.principal,
            "interest": self.interest,
            "collateral": self.collateral,
            "stake": self.stake,
            "since": self.timestamp,
        }
        return self.known()._replace(**(told | more))


Step = Callable[[Ledger, _Told], Trove | None]


def _trove(ledger: Ledger, log: Log, steps: Mapping[int, Step]) -> Undo:
    borrower = subject(log)
    principal, interest, collateral, stake, operation = uints(log.data, 5)
    before, system = ledger.troves.get(borrower), ledger.system
    told = _Told(before, principal, interest, collateral, stake, log.timestamp)
    if operation not in steps:
        raise ValueError(f"operation {operation} is unknown")
    after = steps[operation](ledger, told)
    if after is None:
        ledger.troves.pop(borrower, None)
    else:
        ledger.troves[borrower] = after
    ledger.touched.add(borrower)

    def undo() -> None:
        ledger.system = system
        ledger.touched.add(borrower)
        if before is None:
            ledger.troves.pop(borrower, None)
        else:
            ledger.troves[borrower] = before

    return undo


def _opened(ledger: Ledger, told: _Told) -> Trove:
    system = ledger.system
    return Trove(
        told.collateral,
        told.principal,
        told.interest,
        told.stake,
        system.rate,
        told.timestamp,
        system.collateral_total,
        system.principal_total,
        system.interest_total,
    )


def _ended(ledger: Ledger, told: _Told) -> None:
    # The stake leaves the total without a log of its own (TroveManager._removeStake).
    ledger.system = replace(ledger.system, stakes=ledger.system.stakes - told.known().stake)


def _adjusted(_ledger: Ledger, told: _Told) -> Trove:
    before = told.known()
    if told.principal <= before.principal:
        return told.kept()
    # When more is borrowed the log says that no interest is owed, whatever is (_adjustTrove).
    accrued = rules.interest_down(before.principal, before.rate, before.since, told.timestamp)
    return told.kept(interest=before.interest + accrued)


def _refinanced(ledger: Ledger, told: _Told) -> Trove:
    return told.kept(rate=ledger.system.rate)


def _applied(ledger: Ledger, told: _Told) -> Trove:
    system = ledger.system
    return told.kept(
        collateral_snapshot=system.collateral_total,
        principal_snapshot=system.principal_total,
        interest_snapshot=system.interest_total,
    )


def _redeemed(ledger: Ledger, told: _Told) -> Trove | None:
    if told.principal or told.collateral or told.stake:
        return told.kept()
    _ended(ledger, told)
    return None


def _set(ledger: Ledger, values: Mapping[str, int]) -> Undo:
    before = ledger.system
    ledger.system = replace(before, **values)

    def undo() -> None:
        ledger.system = before

    return undo


def _upgraded(ledger: Ledger, log: Log) -> Undo | None:
    if ledger.stopped:
        return None
    ledger.stopped = f"the code of 0x{log.address.hex()} was replaced"

    def undo() -> None:
        ledger.stopped = ""

    return undo
