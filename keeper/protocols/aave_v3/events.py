"""How each event of an Aave v3.6 market changes the ledger."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from keeper.errors import InvariantError, UndecodableError
from keeper.protocols.aave_v3 import balances
from keeper.protocols.aave_v3.balances import WORD
from keeper.protocols.aave_v3.ledger import Category, Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.words import PADDING, address, small, topic, topic_address, uint
from keeper.types import Log, Undo
from keeper.units import Address, Bps

Handler = Callable[[Ledger, Log], Undo | None]


Event = tuple[Handler, str, int, int, bool]
"""How one event is read: what it does, its name, how many topics and bytes of data it has.

The last says that a string makes the data longer; then the size is the least.
"""


def _reserve(ledger: Ledger, asset: Address) -> Reserve:
    reserve = ledger.by_asset.get(asset)
    if reserve is None:
        raise InvariantError(ledger.market, f"an event names the unlisted reserve 0x{asset.hex()}")
    return reserve


def _asset(ledger: Ledger, log: Log) -> Reserve:
    word = log.topics[1]
    reserve = ledger.by_asset.get(Address(word[12:])) if word.startswith(PADDING) else None
    return reserve or _reserve(ledger, topic_address(log, 1))


def _rates(ledger: Ledger, log: Log) -> Undo:
    """Take indexes and rates (ReserveLogic.updateInterestRatesAndVirtualBalance)."""
    if not log.timestamp:
        raise InvariantError(ledger.market, f"a log of block {log.block_number} has no timestamp")
    words = int.from_bytes(log.data)
    return ledger.set_rates(
        _asset(ledger, log),
        words >> 256 & WORD,
        words >> 1024,
        words & WORD,
        words >> 512 & WORD,
        log.timestamp,
    )


def _liquidation(ledger: Ledger, log: Log) -> Undo | None:
    """Accrue the collateral's indexes when the liquidator kept the aTokens.

    LiquidationLogic.executeLiquidationCall then updates the collateral's indexes without new
    rates, hence without an event (ReserveLogic._updateIndexes).
    """
    reserve = _asset(ledger, log)
    if not uint(log.data, 3) or reserve.updated_at == log.timestamp:
        return None
    return ledger.set_rates(
        reserve,
        reserve.supply_index_at(log.timestamp)
        if reserve.liquidity_rate
        else reserve.liquidity_index,
        reserve.liquidity_rate,
        reserve.borrow_index_at(log.timestamp) if reserve.scaled_debt else reserve.borrow_index,
        reserve.borrow_rate,
        log.timestamp,
    )


def _collateral_on(ledger: Ledger, log: Log) -> Undo:
    return ledger.set_flag(topic_address(log, 2), _asset(ledger, log), used=True)


def _collateral_off(ledger: Ledger, log: Log) -> Undo:
    return ledger.set_flag(topic_address(log, 2), _asset(ledger, log), used=False)


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
    active_with_virtual_accounting = 1 << 56 | 1 << 252
    reserve = Reserve(
        id=ledger.free_id(),
        asset=topic_address(log, 1),
        supply_token=topic_address(log, 2),
        debt_token=address(log.data, 1),
        configuration=active_with_virtual_accounting,
    )
    return ledger.list_reserve(reserve)


def _dropped(ledger: Ledger, log: Log) -> Undo:
    return ledger.drop_reserve(_asset(ledger, log))


def _category(ledger: Ledger, log: Log) -> Undo:
    number = small(log.topics[1], 0, 8)
    ltv, threshold, bonus = (Bps(small(log.data, position, 16)) for position in range(3))
    category = ledger.categories.get(number, Category())
    changed = replace(category, ltv=ltv, threshold=threshold, bonus=bonus)
    return ledger.set_terms(number, changed)


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
        name, _, types = signature.rstrip(")").partition("(")
        values = types.split(",")
        words = len(values) - indexed + values.count("string")
        events[topic(signature)] = handler, name, 1 + indexed, 32 * words, "string" in values
    return events


_UPGRADED: tuple[str, int, Handler] = ("Upgraded(address)", 1, _upgraded)
_MINT = "Mint(address,address,uint256,uint256,uint256)"
_BURN = "Burn(address,address,uint256,uint256,uint256)"
_TRANSFER = "BalanceTransfer(address,address,uint256,uint256)"
SUPPLY_MINT = topic(_MINT)
SUPPLY_TRANSFER = topic(_TRANSFER)

SUPPLY_TOKEN = _events(
    (_MINT, 2, balances.supply_mint),
    (_BURN, 2, balances.supply_burn),
    (_TRANSFER, 2, balances.supply_transfer),
    _UPGRADED,
)
DEBT_TOKEN = _events(
    (_MINT, 2, balances.debt_mint),
    (_BURN, 2, balances.debt_burn),
    _UPGRADED,
)
POOL = _events(
    ("ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)", 1, _rates),
    (
        "LiquidationCall(address,address,address,uint256,uint256,address,bool)",
        3,
        _liquidation,
    ),
    ("ReserveUsedAsCollateralEnabled(address,address)", 2, _collateral_on),
    ("ReserveUsedAsCollateralDisabled(address,address)", 2, _collateral_off),
    ("UserEModeSet(address,uint8)", 1, _emode),
    ("DeficitCreated(address,address,uint256)", 2, _deficit_created),
    ("DeficitCovered(address,address,uint256)", 1, _deficit_covered),
    _UPGRADED,
)
CONFIGURATOR = _events(
    ("ReserveInitialized(address,address,address,address,address)", 2, _listed),
    ("ReserveDropped(address)", 1, _dropped),
    ("CollateralConfigurationChanged(address,uint256,uint256,uint256)", 1, _collateral_terms),
    ("ReserveActive(address,bool)", 1, _bits(56, 1)),
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
TOPICS = frozenset().union(SUPPLY_TOKEN, DEBT_TOKEN, POOL, CONFIGURATOR, PROVIDER)


def fold(ledger: Ledger, event: Event, log: Log) -> Undo | None:
    """Apply a log of a known event; raise `UndecodableError` when it cannot be read."""
    handler, name, topics, size, is_dynamic = event
    data = len(log.data)
    if len(log.topics) != topics or (data < size if is_dynamic else data != size):
        why = f"it has {len(log.topics)} topics and {data} bytes"
        raise undecodable(ledger.market, name, log, why)
    try:
        return handler(ledger, log)
    except (ArithmeticError, LookupError, ValueError) as error:
        raise undecodable(ledger.market, name, log, str(error)) from error


def undecodable(market: str, name: str, log: Log, why: str) -> UndecodableError:
    """Return the error for a log that cannot be read."""
    where = f"0x{log.address.hex()} in block {log.block_number}, log {log.index}"
    return UndecodableError(market, f"{name} of {where} does not decode: {why}")
