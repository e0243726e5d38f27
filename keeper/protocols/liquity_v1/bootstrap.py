"""Find a system from its trove manager, and read its whole state at one block."""

from collections.abc import Iterable, Sequence

from eth_utils.address import to_checksum_address

from keeper.chain.codes import codes_of
from keeper.chain.words import address, answers, read, text, uint
from keeper.errors import ConfigError, IncompleteError
from keeper.ports import Reader
from keeper.protocols.liquity_v1 import rules
from keeper.protocols.liquity_v1.events import Contracts
from keeper.protocols.liquity_v1.ledger import Ledger, System, Trove
from keeper.protocols.liquity_v1.terms import Deployment
from keeper.types import Call, CallResult, Head, Token
from keeper.units import Address

_NAMED = (
    "borrowerOperations()",
    "activePool()",
    "defaultPool()",
    "stabilityPool()",
    "collSurplusPool()",
    "interestRateManager()",
    "priceFeed()",
    "musdToken()",
    "gasPoolAddress()",
)
_RULES = {
    "MCR()": rules.MCR,
    "CCR()": rules.CCR,
    "PERCENT_DIVISOR()": rules.COMPENSATION_DIVISOR,
}
_TROVE_WORDS = 9
_ACTIVE = 1
_SYSTEM = (
    ("manager", "L_Collateral()", "collateral_total"),
    ("manager", "L_Principal()", "principal_total"),
    ("manager", "L_Interest()", "interest_total"),
    ("manager", "totalStakes()", "stakes"),
    ("manager", "totalStakesSnapshot()", "stakes_snapshot"),
    ("manager", "totalCollateralSnapshot()", "collateral_snapshot"),
    ("active_pool", "getCollateralBalance()", "active_collateral"),
    ("active_pool", "getPrincipal()", "active_principal"),
    ("active_pool", "getInterest()", "active_interest"),
    ("default_pool", "getCollateralBalance()", "default_collateral"),
    ("default_pool", "getPrincipal()", "default_principal"),
    ("default_pool", "getInterest()", "default_interest"),
    ("stability_pool", "getTotalMUSDDeposits()", "deposits"),
    ("stability_pool", "getCollateralBalance()", "deposited_collateral"),
    ("rates", "interestRate()", "rate"),
    ("rates", "interestNumerator()", "numerator"),
    ("rates", "lastUpdatedTime()", "accrued_at"),
)
"""Contract, read, and the field of `System` that holds it."""


async def find(
    reader: Reader, manager: Address, wrapped: Address, head: Head, *, is_coin: bool = False
) -> Deployment:
    """Return a system from its trove manager; raise `ConfigError` when there is none that is known."""
    shown = to_checksum_address(manager)
    named = [read(manager, name) for name in (*_NAMED, *_RULES, "MUSD_GAS_COMPENSATION()")]
    results = await reader.multicall([*named, read(manager, "lusdToken()")], head.hash)
    *known, original = results
    if not all(result.ok and len(result.data) == 32 for result in known):
        if original.ok and len(original.data) == 32:
            raise ConfigError(
                f"{shown} is the original Liquity V1, which is not followed",
                "systems that charge interest are: mUSD",
            )
        raise ConfigError(
            f"{shown} is no trove manager of the Liquity V1 family",
            "trove_manager is the contract with batchLiquidateTroves",
        )
    words = [result.data for result in known]
    for (name, wanted), word in zip(_RULES.items(), words[len(_NAMED) :], strict=False):
        if uint(word) != wanted:
            raise ConfigError(f"{shown} says {name} is {uint(word)}, not {wanted} as is known")
    operations, active, default, stability, surplus, rates, feed, token, gas_pool = map(
        address, words[: len(_NAMED)]
    )
    contracts = Contracts(
        manager,
        operations,
        active,
        default,
        stability,
        surplus,
        rates,
        feed,
        token,
        gas_pool,
    )
    coin, debt = await _tokens(reader, head, (wrapped, token))
    codes = await codes_of(reader, sorted(contracts.watched), head)
    return Deployment(contracts, coin, debt, uint(words[-1]), is_coin, codes)


async def _tokens(reader: Reader, head: Head, tokens: Iterable[Address]) -> list[Token]:
    found = []
    for token in tokens:
        calls = [read(token, "symbol()"), read(token, "decimals()")]
        symbol, decimals = await reader.multicall(calls, head.hash)
        if not (symbol.ok and decimals.ok and len(decimals.data) == 32):
            raise ConfigError(
                f"{to_checksum_address(token)} is no token: it does not say its symbol and decimals",
                "wrapped is the wrapped native coin: WETH on Ethereum",
            )
        found.append(Token(token, text(symbol.data), uint(decimals.data)))
    return found


def system_calls(contracts: Contracts) -> list[Call]:
    """Return the reads of all that is not any trove's."""
    return [read(getattr(contracts, where), name) for where, name, _ in _SYSTEM]


def system_of(data: Sequence[bytes], timestamp: int) -> System:
    """Return what the answers to `system_calls` say at a block's time."""
    values = {field: uint(word) for (_, _, field), word in zip(_SYSTEM, data, strict=True)}
    # The pool says its interest with what has come since, which the ledger keeps apart.
    values["active_interest"] -= rules.system_interest_down(
        values["numerator"], values["accrued_at"], timestamp
    )
    return System(**values)


def trove_calls(manager: Address, borrower: Address) -> tuple[Call, Call]:
    """Return the reads of one trove."""
    return read(manager, "Troves(address)", borrower), read(
        manager, "rewardSnapshots(address)", borrower
    )


def trove_of(trove: bytes, snapshots: bytes) -> Trove | None:
    """Return what the answers to `trove_calls` say, None for one that is not open."""
    if uint(trove, 4) != _ACTIVE:
        return None
    collateral, principal, interest, stake = (uint(trove, word) for word in range(4))
    return Trove(
        collateral,
        principal,
        interest,
        stake,
        uint(trove, 5),
        uint(trove, 6),
        *(uint(snapshots, word) for word in range(3)),
    )


async def load(reader: Reader, market: str, deployment: Deployment, head: Head) -> Ledger:
    """Return the ledger as of exactly this head."""
    contracts, block = deployment.contracts, head.hash
    manager = contracts.manager
    first = await reader.multicall(
        [*system_calls(contracts), read(manager, "getTroveOwnersCount()")], block
    )
    *system, count = answers(first, f"market {market}")
    ledger = Ledger(market, system=system_of(system, head.timestamp))
    owners: list[Address] = []
    total = uint(count)

    def take_owners(results: Sequence[CallResult]) -> None:
        owners.extend(address(each) for each in answers(results, f"owners of {market}"))

    listed = (read(manager, "getTroveFromTroveOwnersArray(uint256)", n) for n in range(total))
    await reader.sweep("trove owners", listed, total, block, take_owners)
    waiting = iter(owners)
    held: list[bytes] = []

    def take_troves(results: Sequence[CallResult]) -> None:
        held.extend(answers(results, f"troves of {market}", 3))
        while len(held) >= 2:
            trove = trove_of(held[0], held[1])
            del held[:2]
            owner = next(waiting)
            if trove is None:
                raise IncompleteError(f"the trove of 0x{owner.hex()} is listed and not open")
            ledger.troves[owner] = trove

    parts = (call for owner in owners for call in trove_calls(manager, owner))
    await reader.sweep("troves", parts, 2 * total, block, take_troves)
    if sum(trove.stake for trove in ledger.troves.values()) != ledger.system.stakes:
        raise IncompleteError(f"the stakes of {market} do not add up")
    ledger.look_ahead(head.timestamp)
    return ledger
