"""Fold one market's logs into its ledger."""

from collections.abc import Callable
from functools import partial

from keeper.chain.words import topic, uint
from keeper.errors import UndecodableError
from keeper.protocols.compound_v2.ctoken import CToken, Terms
from keeper.protocols.compound_v2.ledger import CORE, Ledger, Pool
from keeper.protocols.compound_v2.vai import Unread
from keeper.protocols.compound_v2.words import account, number, values
from keeper.types import Log, Undo
from keeper.units import ZERO_ADDRESS, Address, Wad

ACCRUE = topic("AccrueInterest(uint256,uint256,uint256,uint256)")
ACCRUE_FIRST = topic("AccrueInterest(uint256,uint256,uint256)")
"""As the first cTokens emit it, without the cash before."""
TRANSFER = topic("Transfer(address,address,uint256)")
BORROW = topic("Borrow(address,uint256,uint256,uint256)")
REPAY = topic("RepayBorrow(address,address,uint256,uint256,uint256)")
ENTERED = topic("MarketEntered(address,address)")
EXITED = topic("MarketExited(address,address)")
RESTRICTED = topic("LiquidationRestricted(address)")
MINT_VAI = topic("MintVAI(address,uint256)")
LIQUIDATE_VAI = topic("LiquidateVAI(address,address,uint256,address,uint256)")
VAI_DEBTS = {
    MINT_VAI: (2, 0),
    topic("RepayVAI(address,address,uint256)"): (3, 1),
    LIQUIDATE_VAI: (5, 1),
}
"""How many values each has, and which of them is whose debt in VAI changed."""
POOL_SELECTED = topic("PoolSelected(address,uint96,uint96)")
UPGRADED = topic("Upgraded(address)")
"""Of EIP-1967 proxies, as Venus' liquidator is one."""
LIQUIDATE = topic("LiquidateBorrow(address,address,uint256,address,uint256)")

Change = Callable[[Ledger, Log], Undo | None]
CTokenChange = Callable[[Ledger, CToken, Log], Undo | None]

SEIZE, LIQUIDATE_ACTION, REPAY_ACTION, REDEEM_ACTION, TRANSFER_ACTION = 4, 5, 3, 1, 6
"""Numbers of Venus' `Action`."""


def _transfer(ledger: Ledger, ctoken: CToken, log: Log) -> Undo | None:
    sender, recipient, amount = values(log, 3)
    source, target, moved = account(sender), account(recipient), number(amount)
    undos = []
    # What a cToken mints comes from itself, and what it burns goes there.
    if source != ctoken.address:
        left = ctoken.balances.get(source, 0) - moved
        undos.append(ledger.set_balance(source, ctoken, left))
    if target != ctoken.address:
        brought = ctoken.balances.get(target, 0) + moved
        undos.append(ledger.set_balance(target, ctoken, brought))
    return partial(_take_back, undos)


def _accrue(ledger: Ledger, ctoken: CToken, log: Log) -> Undo:
    index, borrows = map(number, values(log, 4 if log.topics[0] == ACCRUE else 3)[-2:])
    if index < ctoken.index:
        raise ValueError(f"the borrow index falls from {ctoken.index} to {index}")
    moment = log.timestamp if ledger.by_seconds else log.block_number
    return partial(
        _take_back,
        [
            ledger.set_value(ctoken, "index", index),
            ledger.set_value(ctoken, "borrows", borrows),
            ledger.set_value(ctoken, "accrued_at", moment),
        ],
    )


def _borrow(ledger: Ledger, ctoken: CToken, log: Log) -> Undo:
    borrower, _, principal, total = values(log, 4)
    return _owe(ledger, ctoken, account(borrower), number(principal), number(total))


def _repay(ledger: Ledger, ctoken: CToken, log: Log) -> Undo:
    _, borrower, _, principal, total = values(log, 5)
    return _owe(ledger, ctoken, account(borrower), number(principal), number(total))


def _owe(ledger: Ledger, ctoken: CToken, borrower: Address, principal: int, total: int) -> Undo:
    return partial(
        _take_back,
        [
            ledger.set_debt(borrower, ctoken, (principal, ctoken.index)),
            ledger.set_value(ctoken, "borrows", total),
        ],
    )


def _reserve_factor(ledger: Ledger, ctoken: CToken, log: Log) -> Undo:
    return ledger.set_value(ctoken, "reserve_factor", number(values(log, 2)[1]))


def _seize_share(ledger: Ledger, ctoken: CToken, log: Log) -> Undo:
    return ledger.set_value(ctoken, "seize_share", number(values(log, 2)[1]))


def _replaced(ledger: Ledger, ctoken: CToken, log: Log) -> Undo:
    del log
    return ledger.stop(f"the code or the comptroller of {ctoken.token.symbol} was replaced")


CTOKEN_CHANGES: dict[bytes, CTokenChange] = {
    ACCRUE: _accrue,
    ACCRUE_FIRST: _accrue,
    TRANSFER: _transfer,
    BORROW: _borrow,
    REPAY: _repay,
    topic("NewReserveFactor(uint256,uint256)"): _reserve_factor,
    topic("NewProtocolSeizeShare(uint256,uint256)"): _seize_share,
    topic("NewImplementation(address,address)"): _replaced,
    topic("NewComptroller(address,address)"): _replaced,
    UPGRADED: _replaced,
}


def _listed(ledger: Ledger, word: bytes) -> CToken:
    ctoken = ledger.by_address.get(account(word))
    if ctoken is None:
        raise ValueError(f"it names 0x{word[12:].hex()}, which the comptroller does not list")
    return ctoken


def _membership(ledger: Ledger, log: Log) -> Undo:
    ctoken, holder = values(log, 2)
    entered = log.topics[0] == ENTERED
    return ledger.set_entered(account(holder), _listed(ledger, ctoken), entered=entered)


def _collateral_factor(ledger: Ledger, log: Log) -> Undo | None:
    word, _, factor = values(log, 3)
    if ledger.has_thresholds:
        return None
    ctoken = _listed(ledger, word)
    incentive = ledger.terms_of(CORE, ctoken).incentive
    return ledger.set_terms(ctoken, CORE, Terms(Wad(number(factor)), incentive))


def _threshold(ledger: Ledger, log: Log) -> Undo | None:
    *pool, word, _, threshold = values(log, 4 if log.topics[0] == POOL_THRESHOLD else 3)
    return _in_pool(ledger, number(b"".join(pool)), word, threshold=Wad(number(threshold)))


def _pool_incentive(ledger: Ledger, log: Log) -> Undo | None:
    pool, word, _, incentive = values(log, 4)
    return _in_pool(ledger, number(pool), word, incentive=Wad(number(incentive)))


def _in_pool(
    ledger: Ledger,
    pool: int,
    word: bytes,
    threshold: Wad | None = None,
    incentive: Wad | None = None,
) -> Undo:
    ctoken = _listed(ledger, word)
    before = ctoken.terms.get(pool, Terms())
    return ledger.set_terms(
        ctoken,
        pool,
        Terms(
            before.threshold if threshold is None else threshold,
            before.incentive if incentive is None else incentive,
        ),
    )


def _incentive(ledger: Ledger, log: Log) -> Undo:
    incentive = Wad(number(values(log, 2)[1]))
    return partial(
        _take_back,
        [
            ledger.set_terms(each, CORE, Terms(ledger.terms_of(CORE, each).threshold, incentive))
            for each in ledger.ctokens
        ],
    )


def _close_factor(ledger: Ledger, log: Log) -> Undo:
    return ledger.set_value(ledger, "close_factor", number(values(log, 2)[1]))


def _action_paused(ledger: Ledger, log: Log) -> Undo:
    word, action, state = values(log, 3)
    ctoken, bit = _listed(ledger, word), 1 << number(action)
    paused = ctoken.paused | bit if number(state) else ctoken.paused & ~bit
    return ledger.set_value(ctoken, "paused", paused)


def _protocol_paused(ledger: Ledger, log: Log) -> Undo:
    return ledger.set_value(ledger, "is_paused", bool(number(values(log, 1)[0])))


def _guardian_paused(ledger: Ledger, log: Log) -> Undo | None:
    """Take Compound's `ActionPaused(string,bool)`: of the global ones only seizing matters."""
    name = log.data[96 : 96 + uint(log.data, 2)]
    return (
        ledger.set_value(ledger, "is_paused", bool(uint(log.data, 1))) if name == b"Seize" else None
    )


def _forced(ledger: Ledger, log: Log) -> Undo:
    word, state = values(log, 2)
    return ledger.set_value(_listed(ledger, word), "is_forced", bool(number(state)))


def _pool_selected(ledger: Ledger, log: Log) -> Undo:
    # The old pool is not indexed, and so comes last.
    holder, pool, _ = values(log, 3)
    return ledger.set_pool(account(holder), number(pool))


def _pool_active(ledger: Ledger, log: Log) -> Undo:
    pool, _, state = values(log, 3)
    about = ledger.pools.get(number(pool), Pool())
    return ledger.set_about(number(pool), Pool(bool(number(state)), about.falls_back))


def _pool_fallback(ledger: Ledger, log: Log) -> Undo:
    pool, _, state = values(log, 3)
    about = ledger.pools.get(number(pool), Pool())
    return ledger.set_about(number(pool), Pool(about.is_active, bool(number(state))))


def _redeem_fee(ledger: Ledger, log: Log) -> Undo:
    return ledger.set_value(ledger, "redeem_fee", number(values(log, 2)[1]))


def _minimum(ledger: Ledger, log: Log) -> Undo:
    return ledger.set_value(ledger, "minimum_collateral", number(values(log, 2)[1]))


def _other_contracts(ledger: Ledger, log: Log) -> Undo:
    del log
    return ledger.stop("the comptroller's markets, pools, code or contracts were changed")


POOL_THRESHOLD = topic("NewLiquidationThreshold(uint96,address,uint256,uint256)")
COMPTROLLER_CHANGES: dict[bytes, Change] = {
    ENTERED: _membership,
    EXITED: _membership,
    topic("NewCollateralFactor(address,uint256,uint256)"): _collateral_factor,
    topic("NewLiquidationThreshold(address,uint256,uint256)"): _threshold,
    POOL_THRESHOLD: _threshold,
    topic("NewLiquidationIncentive(uint256,uint256)"): _incentive,
    topic("NewLiquidationIncentive(uint96,address,uint256,uint256)"): _pool_incentive,
    topic("NewCloseFactor(uint256,uint256)"): _close_factor,
    topic("ActionPausedMarket(address,uint8,bool)"): _action_paused,
    topic("ActionProtocolPaused(bool)"): _protocol_paused,
    topic("ActionPaused(string,bool)"): _guardian_paused,
    topic("IsForcedLiquidationEnabledUpdated(address,bool)"): _forced,
    POOL_SELECTED: _pool_selected,
    topic("PoolActiveStatusUpdated(uint96,bool,bool)"): _pool_active,
    topic("PoolFallbackStatusUpdated(uint96,bool,bool)"): _pool_fallback,
    topic("NewTreasuryPercent(uint256,uint256)"): _redeem_fee,
    topic("NewMinLiquidatableCollateral(uint256,uint256)"): _minimum,
    **dict.fromkeys(
        map(
            topic,
            (
                "MarketListed(address)",
                "MarketUnlisted(address)",
                "PoolMarketInitialized(uint96,address)",
                "PoolMarketRemoved(uint96,address)",
                "NewLiquidatorContract(address,address)",
                "NewVAIController(address,address)",
                "NewComptrollerLens(address,address)",
                "NewImplementation(address,address)",
                "Upgraded(address)",
                "DiamondCut((address,uint8,bytes4[])[])",
            ),
        ),
        _other_contracts,
    ),
}


def _treasury_share(ledger: Ledger, log: Log) -> Undo:
    return ledger.set_value(ledger, "treasury_share", number(values(log, 2)[1]))


def _restriction(ledger: Ledger, log: Log) -> Undo:
    borrower = account(values(log, 1)[0])
    return ledger.set_member(ledger.restricted, borrower, member=log.topics[0] == RESTRICTED)


def _liquidator_replaced(ledger: Ledger, log: Log) -> Undo:
    del log
    return ledger.stop("the code of the liquidator contract or of the VAI controller was replaced")


def _vai_changed(ledger: Ledger, log: Log) -> Undo:
    count, place = VAI_DEBTS[log.topics[0]]
    return ledger.set_minter(account(values(log, count)[place]), Unread(log.block_number))


BESIDE_CHANGES: dict[bytes, Change] = {
    topic("NewLiquidationTreasuryPercent(uint256,uint256)"): _treasury_share,
    RESTRICTED: _restriction,
    topic("LiquidationRestrictionsDisabled(address)"): _restriction,
    **dict.fromkeys(VAI_DEBTS, _vai_changed),
    UPGRADED: _liquidator_replaced,
    topic("NewImplementation(address,address)"): _liquidator_replaced,
}
"""Of Venus' liquidator, and of its VAI controller."""
TOPICS = (
    frozenset(CTOKEN_CHANGES)
    | frozenset(COMPTROLLER_CHANGES)
    | frozenset(BESIDE_CHANGES)
    | {LIQUIDATE}  # it changes nothing that other logs do not, and says who was liquidated
)


def fold(ledger: Ledger, comptroller: Address, vai: Address, log: Log) -> Undo | None:
    """Apply one log; raise `UndecodableError` for one that makes no sense."""
    ctoken = ledger.by_address.get(log.address)
    name = log.topics[0] if log.topics else b""
    try:
        if ctoken is not None:
            on_ctoken = CTOKEN_CHANGES.get(name)
            return None if on_ctoken is None else on_ctoken(ledger, ctoken, log)
        if log.address == comptroller:
            change = COMPTROLLER_CHANGES.get(name)
        elif log.address in {ledger.liquidator, vai} - {ZERO_ADDRESS}:
            change = BESIDE_CHANGES.get(name)
        else:
            return None
        return None if change is None else change(ledger, log)
    except (ArithmeticError, LookupError, ValueError) as error:
        raise UndecodableError(
            ledger.market,
            f"log {log.index} of block {log.block_number} from 0x{log.address.hex()}: {error}",
        ) from error


def _take_back(undos: list[Undo]) -> None:
    for undo in reversed(undos):
        undo()
