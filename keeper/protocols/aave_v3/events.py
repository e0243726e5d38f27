"""How each event of an Aave v3.6 market changes the ledger."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from keeper.errors import InvariantError
from keeper.protocols.aave_v3 import v36
from keeper.protocols.aave_v3.ledger import Category, Ledger
from keeper.protocols.aave_v3.reserve import Reserve
from keeper.protocols.aave_v3.words import address, topic, uint
from keeper.types import Log, Undo
from keeper.units import Address, Bps

Handler = Callable[[Ledger, Log], Undo | None]


def topic_address(log: Log, position: int) -> Address:
    """Return an indexed address."""
    return Address(log.topics[position][12:])


def _reserve(ledger: Ledger, asset: Address) -> Reserve:
    reserve = ledger.by_asset.get(asset)
    if reserve is None:
        raise InvariantError(ledger.market, f"an event names the unlisted reserve 0x{asset.hex()}")
    return reserve


def _asset(ledger: Ledger, log: Log) -> Reserve:
    return _reserve(ledger, topic_address(log, 1))


def _both(first: Undo, second: Undo) -> Undo:
    def undo() -> None:
        second()
        first()

    return undo


def _supply_change(ledger: Ledger, log: Log, holder: Address, change: int) -> Undo:
    """Set the scaled balance behind `balance after − balance before = change`.

    ScaledBalanceTokenBase._mintScaled and _burnScaled: the balance before is the one at the
    holder's last index, which is the balance now less `balanceIncrease`.
    """
    reserve = ledger.by_supply_token[log.address]
    increase, index = uint(log.data, 1), uint(log.data, 2)
    held = ledger.account(holder).supplied.get(reserve.id, 0)
    balance = v36.supply_balance_down(held, index) - increase + change
    scaled = v36.scaled_supply(balance, index)
    if balance < 0 or v36.supply_balance_down(scaled, index) != balance:
        raise _impossible(ledger, log, holder, balance)
    return ledger.set_supplied(holder, reserve, scaled)


def _debt_change(ledger: Ledger, log: Log, holder: Address, change: int) -> Undo:
    reserve = ledger.by_debt_token[log.address]
    increase, index = uint(log.data, 1), uint(log.data, 2)
    held = ledger.account(holder).borrowed.get(reserve.id, 0)
    balance = v36.debt_balance_up(held, index) - increase + change
    scaled = v36.scaled_debt(balance, index)
    if balance < 0 or v36.debt_balance_up(scaled, index) != balance:
        raise _impossible(ledger, log, holder, balance)
    return ledger.set_borrowed(holder, reserve, scaled)


def _impossible(ledger: Ledger, log: Log, holder: Address, balance: int) -> InvariantError:
    return InvariantError(
        ledger.market,
        f"token 0x{log.address.hex()} in block {log.block_number}: no scaled balance of"
        f" 0x{holder.hex()} gives {balance}",
    )


def _supply_mint(ledger: Ledger, log: Log) -> Undo:
    return _supply_change(ledger, log, topic_address(log, 2), uint(log.data))


def _supply_burn(ledger: Ledger, log: Log) -> Undo:
    return _supply_change(ledger, log, topic_address(log, 1), -uint(log.data))


def _debt_mint(ledger: Ledger, log: Log) -> Undo:
    return _debt_change(ledger, log, topic_address(log, 2), uint(log.data))


def _debt_burn(ledger: Ledger, log: Log) -> Undo:
    return _debt_change(ledger, log, topic_address(log, 1), -uint(log.data))


def _supply_transfer(ledger: Ledger, log: Log) -> Undo:
    """Move scaled units (AToken._transfer)."""
    reserve = ledger.by_supply_token[log.address]
    sender, recipient, scaled = topic_address(log, 1), topic_address(log, 2), uint(log.data)
    held = ledger.account(sender).supplied.get(reserve.id, 0)
    if held < scaled:
        raise _impossible(ledger, log, sender, held - scaled)
    first = ledger.set_supplied(sender, reserve, held - scaled)
    held = ledger.account(recipient).supplied.get(reserve.id, 0)
    return _both(first, ledger.set_supplied(recipient, reserve, held + scaled))


def _rates(ledger: Ledger, log: Log) -> Undo:
    """Take indexes and rates (ReserveLogic.updateInterestRatesAndVirtualBalance)."""
    if not log.timestamp:
        raise InvariantError(ledger.market, f"a log of block {log.block_number} has no timestamp")
    data = log.data
    return ledger.set_rates(
        _asset(ledger, log), uint(data, 3), uint(data), uint(data, 4), uint(data, 2), log.timestamp
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
    return ledger.set_category(topic_address(log, 1), uint(log.data))


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
        value = uint(log.data, word) << position
        return ledger.set_configuration(reserve, reserve.configuration & ~mask | value)

    return handler


def _collateral_terms(ledger: Ledger, log: Log) -> Undo:
    reserve = _asset(ledger, log)
    ltv, threshold, bonus = (uint(log.data, position) for position in range(3))
    terms = ltv | threshold << 16 | bonus << 32
    return ledger.set_configuration(reserve, reserve.configuration & ~(2**48 - 1) | terms)


def _isolation(ledger: Ledger, log: Log) -> Undo:
    reserve = _reserve(ledger, address(log.data))
    bit = 1 << 61
    value = bit if uint(log.data, 1) else 0
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
    number = int.from_bytes(log.topics[1], "big")
    ltv, threshold, bonus = (Bps(uint(log.data, position)) for position in range(3))
    category = ledger.categories.get(number, Category())
    changed = replace(category, ltv=ltv, threshold=threshold, bonus=bonus)
    return ledger.set_terms(number, changed)


def _marked(bitmap: int, log: Log, reserve: Reserve) -> int:
    bit = 1 << reserve.id
    return bitmap | bit if uint(log.data, 1) else bitmap & ~bit


def _category_collateral(ledger: Ledger, log: Log) -> Undo:
    category = ledger.categories.get(uint(log.data), Category())
    bitmap = _marked(category.collateral, log, _asset(ledger, log))
    return ledger.set_terms(uint(log.data), replace(category, collateral=bitmap))


def _category_borrowable(ledger: Ledger, log: Log) -> Undo:
    category = ledger.categories.get(uint(log.data), Category())
    bitmap = _marked(category.borrowable, log, _asset(ledger, log))
    return ledger.set_terms(uint(log.data), replace(category, borrowable=bitmap))


def _category_ltv_zero(ledger: Ledger, log: Log) -> Undo:
    category = ledger.categories.get(uint(log.data), Category())
    bitmap = _marked(category.ltv_zero, log, _asset(ledger, log))
    return ledger.set_terms(uint(log.data), replace(category, ltv_zero=bitmap))


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


UPGRADED = topic("Upgraded(address)")
SUPPLY_MINT = topic("Mint(address,address,uint256,uint256,uint256)")
SUPPLY_TRANSFER = topic("BalanceTransfer(address,address,uint256,uint256)")
BURN = topic("Burn(address,address,uint256,uint256,uint256)")

SUPPLY_TOKEN: Mapping[bytes, Handler] = {
    SUPPLY_MINT: _supply_mint,
    BURN: _supply_burn,
    SUPPLY_TRANSFER: _supply_transfer,
    UPGRADED: _upgraded,
}
DEBT_TOKEN: Mapping[bytes, Handler] = {
    SUPPLY_MINT: _debt_mint,
    BURN: _debt_burn,
    UPGRADED: _upgraded,
}
POOL: Mapping[bytes, Handler] = {
    topic("ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)"): _rates,
    topic("LiquidationCall(address,address,address,uint256,uint256,address,bool)"): _liquidation,
    topic("ReserveUsedAsCollateralEnabled(address,address)"): _collateral_on,
    topic("ReserveUsedAsCollateralDisabled(address,address)"): _collateral_off,
    topic("UserEModeSet(address,uint8)"): _emode,
    topic("DeficitCreated(address,address,uint256)"): _deficit_created,
    topic("DeficitCovered(address,address,uint256)"): _deficit_covered,
    UPGRADED: _upgraded,
}
CONFIGURATOR: Mapping[bytes, Handler] = {
    topic("ReserveInitialized(address,address,address,address,address)"): _listed,
    topic("ReserveDropped(address)"): _dropped,
    topic("CollateralConfigurationChanged(address,uint256,uint256,uint256)"): _collateral_terms,
    topic("ReserveActive(address,bool)"): _bits(56, 1),
    topic("ReserveFrozen(address,bool)"): _bits(57, 1),
    topic("ReserveBorrowing(address,bool)"): _bits(58, 1),
    topic("ReservePaused(address,bool)"): _bits(60, 1),
    topic("BorrowableInIsolationChanged(address,bool)"): _isolation,
    topic("SiloedBorrowingChanged(address,bool,bool)"): _bits(62, 1, word=1),
    topic("ReserveFlashLoaning(address,bool)"): _bits(63, 1),
    topic("ReserveFactorChanged(address,uint256,uint256)"): _bits(64, 16, word=1),
    topic("BorrowCapChanged(address,uint256,uint256)"): _bits(80, 36, word=1),
    topic("SupplyCapChanged(address,uint256,uint256)"): _bits(116, 36, word=1),
    topic("LiquidationProtocolFeeChanged(address,uint256,uint256)"): _bits(152, 16, word=1),
    topic("DebtCeilingChanged(address,uint256,uint256)"): _bits(212, 40, word=1),
    topic("LiquidationGracePeriodChanged(address,uint40)"): _grace,
    topic("LiquidationGracePeriodDisabled(address)"): _grace_off,
    topic("EModeCategoryAdded(uint8,uint256,uint256,uint256,address,string)"): _category,
    topic("AssetCollateralInEModeChanged(address,uint8,bool)"): _category_collateral,
    topic("AssetBorrowableInEModeChanged(address,uint8,bool)"): _category_borrowable,
    topic("AssetLtvzeroInEModeChanged(address,uint8,bool)"): _category_ltv_zero,
    topic("FlashloanPremiumTotalUpdated(uint128,uint128)"): _premium,
    UPGRADED: _upgraded,
}
PROVIDER: Mapping[bytes, Handler] = {
    topic("PriceOracleSentinelUpdated(address,address)"): _sentinel,
    topic("AddressSet(bytes32,address,address)"): _address_set,
}
TOPICS = frozenset().union(SUPPLY_TOKEN, DEBT_TOKEN, POOL, CONFIGURATOR, PROVIDER)
