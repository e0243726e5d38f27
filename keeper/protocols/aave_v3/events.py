"""How each event of an Aave v3 market changes the ledger."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from keeper.chain.words import address, topic, uint
from keeper.errors import UndecodableError
from keeper.protocols.aave_v3 import balances, early_balances
from keeper.protocols.aave_v3.balances import Change, Step, take_back
from keeper.protocols.aave_v3.ledger import Category, Ledger
from keeper.protocols.aave_v3.rates import Rates
from keeper.protocols.aave_v3.reserve import CATEGORY_BIT, Reserve
from keeper.protocols.aave_v3.special import (
    DISCOUNT,
    STABLE_BURN,
    STABLE_MINT,
    discount,
    stable_burn,
    stable_mint,
)
from keeper.protocols.aave_v3.words import malformed, small, topic_address
from keeper.types import Log, Undo
from keeper.units import ZERO_ADDRESS, Address, Bps

NAMES: dict[bytes, str] = {}
"""Every event's name by its first topic."""
Bind = TypeVar("Bind")
Handler = Callable[[Ledger, Log], Undo | None]
Event = tuple[Handler, int, int, bool]
"""How one event is read: what it does, how many topics and bytes of data it has.

The last says that a string makes the data longer; then the size is the least.
"""


def _reserve(ledger: Ledger, asset: Address) -> Reserve:
    reserve = ledger.by_asset.get(asset)
    if reserve is None:
        raise ledger.unlisted(asset)
    return reserve


def _asset(ledger: Ledger, log: Log) -> Reserve:
    return _reserve(ledger, topic_address(log, 1))


def _liquidation(ledger: Ledger, log: Log) -> Undo | None:
    """Accrue the collateral's indexes when the liquidator kept the aTokens.

    LiquidationLogic.executeLiquidationCall then updates the collateral's indexes without new
    rates, hence without an event (ReserveLogic._updateIndexes); up to v3.4 it leaves them.
    """
    reserve = _asset(ledger, log)
    if not ledger.era.accrues_kept or not uint(log.data, 3) or reserve.updated_at == log.timestamp:
        return None
    return reserve.renew(
        reserve.supply_index_at(log.timestamp)
        if reserve.liquidity_rate
        else reserve.liquidity_index,
        reserve.liquidity_rate,
        reserve.borrow_index_at(log.timestamp) if reserve.scaled_debt else reserve.borrow_index,
        reserve.borrow_rate,
        log.timestamp,
    )


def _emode(ledger: Ledger, log: Log) -> Undo:
    return ledger.set_category(topic_address(log, 1), small(log.data, 0, 8))


def _deficit_created(ledger: Ledger, log: Log) -> Undo:
    reserve = _reserve(ledger, topic_address(log, 2))
    return ledger.set_deficit(reserve, reserve.deficit + uint(log.data))


def _deficit_covered(ledger: Ledger, log: Log) -> Undo:
    reserve = _asset(ledger, log)
    return ledger.set_deficit(reserve, reserve.deficit - uint(log.data, 1))


def _bits(position: int, width: int, word: int = 0) -> Handler:
    """Return a handler that copies a word of the event into the configuration bitmap."""

    def handler(ledger: Ledger, log: Log) -> Undo:
        reserve = _asset(ledger, log)
        mask = ((1 << width) - 1) << position
        value = small(log.data, word, width) << position
        return ledger.set_configuration(reserve, reserve.configuration & ~mask | value)

    return handler


def _collateral_terms(ledger: Ledger, log: Log) -> Undo:
    reserve = _asset(ledger, log)
    ltv, threshold, bonus = (small(log.data, position, 16) for position in range(3))
    terms = ltv | threshold << 16 | bonus << 32
    return ledger.set_configuration(reserve, reserve.configuration & ~(2**48 - 1) | terms)


def _isolation(ledger: Ledger, log: Log) -> Undo:
    reserve = _reserve(ledger, address(log.data))
    bit = 1 << 61
    value = bit if small(log.data, 1, 1) else 0
    return ledger.set_configuration(reserve, reserve.configuration & ~bit | value)


def _grace(ledger: Ledger, log: Log) -> Undo:
    return ledger.set_grace(_asset(ledger, log), uint(log.data))


def _grace_off(ledger: Ledger, log: Log) -> Undo:
    return ledger.set_grace(_asset(ledger, log), 0)


def _listed(ledger: Ledger, log: Log) -> Undo:
    """List a reserve as ConfiguratorLogic.executeInitReserve does; decimals are read later."""
    active = 1 << 56
    if ledger.era.has_virtual_balance:
        active |= 1 << 252
    reserve = Reserve(
        id=ledger.free_id(),
        asset=topic_address(log, 1),
        supply_token=topic_address(log, 2),
        debt_token=address(log.data, 1),
        configuration=active,
        era=ledger.era,
        stable_token=address(log.data) if ledger.era.has_stable_rates else ZERO_ADDRESS,
        tells_amounts=any(each.tells_amounts for each in ledger.reserves.values()),
    )
    return ledger.list_reserve(reserve)


def _dropped(ledger: Ledger, log: Log) -> Undo:
    return ledger.drop_reserve(_asset(ledger, log))


def _category(ledger: Ledger, log: Log) -> Undo:
    number = small(log.topics[1], 0, 8)
    ltv, threshold, bonus = (Bps(small(log.data, position, 16)) for position in range(3))
    if not ledger.era.has_bitmaps and address(log.data, 3) != ZERO_ADDRESS:
        return ledger.stop(own_price(number))
    category = ledger.categories.get(number, Category())
    changed = replace(category, ltv=ltv, threshold=threshold, bonus=bonus)
    return ledger.set_terms(number, changed)


def own_price(number: int) -> str:
    """Say why a category whose members are valued by another price cannot be followed."""
    return f"eMode category {number} has a price source of its own"


def _marked(bitmap: int, log: Log, reserve: Reserve) -> int:
    bit = 1 << reserve.id
    return bitmap | bit if small(log.data, 1, 1) else bitmap & ~bit


def _category_collateral(ledger: Ledger, log: Log) -> Undo:
    number = small(log.data, 0, 8)
    category = ledger.categories.get(number, Category())
    bitmap = _marked(category.collateral, log, _asset(ledger, log))
    return ledger.set_terms(number, replace(category, collateral=bitmap))


def _category_borrowable(ledger: Ledger, log: Log) -> Undo:
    number = small(log.data, 0, 8)
    category = ledger.categories.get(number, Category())
    bitmap = _marked(category.borrowable, log, _asset(ledger, log))
    return ledger.set_terms(number, replace(category, borrowable=bitmap))


def _category_ltv_zero(ledger: Ledger, log: Log) -> Undo:
    number = small(log.data, 0, 8)
    category = ledger.categories.get(number, Category())
    bitmap = _marked(category.ltv_zero, log, _asset(ledger, log))
    return ledger.set_terms(number, replace(category, ltv_zero=bitmap))


def _category_of(ledger: Ledger, log: Log) -> Undo:
    """Move a reserve to another category, as it had only one up to v3.1."""
    reserve, number = _asset(ledger, log), small(log.data, 1, 8)
    steps: list[Undo] = []
    for old in (reserve.category, number):
        if not old:
            continue
        category = ledger.categories.get(old, Category())
        bit = 1 << reserve.id
        marked = category.collateral | bit if old == number else category.collateral & ~bit
        changed = replace(category, collateral=marked, borrowable=marked)
        steps.append(ledger.set_terms(old, changed))
    mask = 0xFF << CATEGORY_BIT
    configuration = reserve.configuration & ~mask | number << CATEGORY_BIT
    steps.append(ledger.set_configuration(reserve, configuration))
    return partial(_all_back, steps)


def _all_back(undos: list[Undo]) -> None:
    for undo in reversed(undos):
        undo()


def _premium(ledger: Ledger, log: Log) -> Undo:
    return ledger.set_flash_premium(Bps(uint(log.data, 1)))


def _sentinel(ledger: Ledger, log: Log) -> Undo:
    return ledger.set_sentinel(topic_address(log, 2))


def _address_set(ledger: Ledger, log: Log) -> Undo | None:
    """Follow PoolAddressesProvider.setAddress, which names what it replaces by an id."""
    match log.topics[1].rstrip(b"\0"):
        case b"PRICE_ORACLE_SENTINEL":
            return ledger.set_sentinel(topic_address(log, 3))
        case b"POOL" | b"POOL_CONFIGURATOR":
            return _upgraded(ledger, log)
        case _:
            return None


def _upgraded(ledger: Ledger, log: Log) -> Undo:
    return ledger.stop(
        f"the code of 0x{log.address.hex()} was replaced in block {log.block_number}"
    )


def _events(*entries: tuple[str, int, Handler]) -> Mapping[bytes, Event]:
    """Return events by their first topic, from signature, number of indexed values, and effect."""
    events: dict[bytes, Event] = {}
    for signature, indexed, handler in entries:
        values = signature.rstrip(")").partition("(")[2].split(",")
        words = len(values) - indexed + values.count("string")
        events[topic(signature)] = handler, 1 + indexed, 32 * words, "string" in values
        NAMES[topic(signature)] = signature.partition("(")[0]
    return events


def _rules(entries: Mapping[str, Bind]) -> Mapping[bytes, Bind]:
    """Return what binds each event to what it changes, by the event's first topic."""
    NAMES.update((topic(signature), signature.partition("(")[0]) for signature in entries)
    return {topic(signature): rule for signature, rule in entries.items()}


_UPGRADED: tuple[str, int, Handler] = ("Upgraded(address)", 1, _upgraded)
_MINT = "Mint(address,address,uint256,uint256,uint256)"
_BURN = "Burn(address,address,uint256,uint256,uint256)"
_TRANSFER = "BalanceTransfer(address,address,uint256,uint256)"
_RATES = "ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)"
_CATEGORY_SET = "UserEModeSet(address,uint8)"
_COLLATERAL_ON = "ReserveUsedAsCollateralEnabled(address,address)"
_COLLATERAL_OFF = "ReserveUsedAsCollateralDisabled(address,address)"
SUPPLY_MINT = topic(_MINT)
SUPPLY_BURN = topic(_BURN)
COLLATERAL_ON, COLLATERAL_OFF = topic(_COLLATERAL_ON), topic(_COLLATERAL_OFF)
SUPPLY_TRANSFER = topic(_TRANSFER)
CATEGORY_SET = topic(_CATEGORY_SET)

SUPPLY_TOKEN = _rules(
    {
        _MINT: balances.supply_mint,
        _BURN: balances.supply_burn,
        _TRANSFER: balances.supply_transfer,
    }
)
DEBT_TOKEN = _rules({_MINT: balances.debt_mint, _BURN: balances.debt_burn})
EARLY_SUPPLY_TOKEN = _rules(
    {
        _MINT: early_balances.supply_mint,
        _BURN: early_balances.supply_burn,
        _TRANSFER: balances.supply_transfer,
    }
)
EARLY_DEBT_TOKEN = _rules({_MINT: early_balances.debt_mint, _BURN: early_balances.debt_burn})
TOKEN = _events(_UPGRADED)
FLAGS = _rules(
    {
        _COLLATERAL_ON: balances.collateral_on,
        _COLLATERAL_OFF: balances.collateral_off,
    }
)
RATES = topic(_RATES)
NAMES[RATES] = "ReserveDataUpdated"
POOL = _events(
    (
        "LiquidationCall(address,address,address,uint256,uint256,address,bool)",
        3,
        _liquidation,
    ),
    (_CATEGORY_SET, 1, _emode),
    ("DeficitCreated(address,address,uint256)", 2, _deficit_created),
    ("DeficitCovered(address,address,uint256)", 1, _deficit_covered),
    _UPGRADED,
)
STABLE_TOKEN = {STABLE_MINT: stable_mint, STABLE_BURN: stable_burn}
"""What tells of debts at stable rates, which there were up to v3.1."""
NAMES |= {STABLE_MINT: "Mint", STABLE_BURN: "Burn", DISCOUNT: "DiscountPercentUpdated"}
CONFIGURATOR = _events(
    ("ReserveInitialized(address,address,address,address,address)", 2, _listed),
    ("ReserveDropped(address)", 1, _dropped),
    ("CollateralConfigurationChanged(address,uint256,uint256,uint256)", 1, _collateral_terms),
    ("ReserveActive(address,bool)", 1, _bits(56, 1)),
    ("ReserveStableRateBorrowing(address,bool)", 1, _bits(59, 1)),
    ("UnbackedMintCapChanged(address,uint256,uint256)", 1, _bits(176, 36, word=1)),
    ("ReserveFrozen(address,bool)", 1, _bits(57, 1)),
    ("ReserveBorrowing(address,bool)", 1, _bits(58, 1)),
    ("ReservePaused(address,bool)", 1, _bits(60, 1)),
    ("BorrowableInIsolationChanged(address,bool)", 0, _isolation),
    ("SiloedBorrowingChanged(address,bool,bool)", 1, _bits(62, 1, word=1)),
    ("ReserveFlashLoaning(address,bool)", 1, _bits(63, 1)),
    ("ReserveFactorChanged(address,uint256,uint256)", 1, _bits(64, 16, word=1)),
    ("BorrowCapChanged(address,uint256,uint256)", 1, _bits(80, 36, word=1)),
    ("SupplyCapChanged(address,uint256,uint256)", 1, _bits(116, 36, word=1)),
    ("LiquidationProtocolFeeChanged(address,uint256,uint256)", 1, _bits(152, 16, word=1)),
    ("DebtCeilingChanged(address,uint256,uint256)", 1, _bits(212, 40, word=1)),
    ("LiquidationGracePeriodChanged(address,uint40)", 1, _grace),
    ("LiquidationGracePeriodDisabled(address)", 1, _grace_off),
    ("EModeCategoryAdded(uint8,uint256,uint256,uint256,address,string)", 1, _category),
    ("EModeAssetCategoryChanged(address,uint8,uint8)", 1, _category_of),
    ("AssetCollateralInEModeChanged(address,uint8,bool)", 1, _category_collateral),
    ("AssetBorrowableInEModeChanged(address,uint8,bool)", 1, _category_borrowable),
    ("AssetLtvzeroInEModeChanged(address,uint8,bool)", 1, _category_ltv_zero),
    ("FlashloanPremiumTotalUpdated(uint128,uint128)", 0, _premium),
    _UPGRADED,
)
PROVIDER = _events(
    ("PriceOracleSentinelUpdated(address,address)", 2, _sentinel),
    ("AddressSet(bytes32,address,address)", 3, _address_set),
)
TOPICS = frozenset(NAMES) - {*STABLE_TOKEN, DISCOUNT}

Changes = Mapping[Address, Mapping[bytes, Change]]


def changes(
    ledger: Ledger, rates: Rates, pool: Address, configurator: Address, provider: Address
) -> Changes:
    """Return what applies each event, by contract and first topic.

    They know the reserves as they are listed now, as `rates` does: after a change of the list they
    are made anew.
    """
    flags: dict[bytes, Change] = {key: rule(ledger) for key, rule in FLAGS.items()}
    found = {
        provider: _bound(ledger, rates, PROVIDER),
        configurator: _bound(ledger, rates, CONFIGURATOR),
        pool: _bound(ledger, rates, POOL) | flags | {RATES: rates.take},
    }
    code = _bound(ledger, rates, TOKEN)
    early = ledger.era.rounds_balances
    debts, supplies = EARLY_DEBT_TOKEN if early else DEBT_TOKEN, SUPPLY_TOKEN
    if early:
        supplies = EARLY_SUPPLY_TOKEN
    for token, reserve in ledger.by_debt_token.items():
        found[token] = code | {key: rule(ledger, reserve) for key, rule in debts.items()}
        if ledger.era.has_discounts:
            found[token][DISCOUNT] = discount(ledger, reserve)
        if reserve.stable_token != ZERO_ADDRESS:
            bound = {key: rule(ledger, reserve) for key, rule in STABLE_TOKEN.items()}
            found[reserve.stable_token] = code | bound
    for token, reserve in ledger.by_supply_token.items():
        found[token] = code | {key: rule(ledger, reserve) for key, rule in supplies.items()}
        if reserve.tells_amounts:
            told = early_balances.supply_transfer_of_amount(ledger, reserve)
            found[token][SUPPLY_TRANSFER] = told
    return found


def topics(ledger: Ledger) -> frozenset[bytes]:
    """Return the first topics to watch in a market of the ledger's era."""
    era = ledger.era
    stable = frozenset(STABLE_TOKEN) if era.has_stable_rates else frozenset()
    return TOPICS | stable | ({DISCOUNT} if era.has_discounts else frozenset())


def _bound(ledger: Ledger, rates: Rates, events: Mapping[bytes, Event]) -> dict[bytes, Change]:
    return {key: partial(_apply, ledger, rates, event) for key, event in events.items()}


def _apply(ledger: Ledger, rates: Rates, event: Event, log: Log) -> Step | None:
    handler, topics, size, is_dynamic = event
    data = len(log.data)
    if len(log.topics) != topics or (data < size if is_dynamic else data != size):
        raise malformed(log)
    steps = rates.write()
    try:
        undo = handler(ledger, log)
    except Exception:
        take_back(steps)
        raise
    if undo is not None:
        steps.append((undo,))
    return (take_back, steps) if steps else None


def undecodable(market: str, log: Log, why: str) -> UndecodableError:
    """Return the error for a log that cannot be read."""
    where = f"0x{log.address.hex()} in block {log.block_number}, log {log.index}"
    return UndecodableError(market, f"{NAMES[log.topics[0]]} of {where} does not decode: {why}")
