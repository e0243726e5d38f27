"""Why an item, a group or a transaction failed, read from the first bytes of revert data."""

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak

_OWN = {
    "NotOperator": "the sender is not a listed operator",
    "NotOwner": "the sender is not the owner",
    "NotSelf": "only the contract itself may run a group",
    "Expired": "the deadline has passed",
    "BadBatch": "the packed batch is malformed",
    "NotAllowed": "the owner has not allowed this call, factory or conversion",
    "Refused": "this call can never be allowed",
    "ZeroAddress": "an address is zero",
    "TokenNotListed": "a token is not listed in the batch",
    "UnexpectedCallback": "a callback came that was not asked for",
    "NoCallback": "the lender or pool did not call back",
    "InventoryShort": "less is held than is to be spent",
    "BalanceFell": "a token would fall below its balance before the batch, or its budget",
    "LoanUnpaid": "the loan of its token could not be taken or repaid, and all of the token was undone",
    "NativeFell": "the native coin would fall below its balance before the batch",
    "GainBelowMinimum": "a token gained less than the batch's minimum",
    "Starved": "too little gas was left for the next group or item",
    "UnknownProtocol": "the contract does not know the group's protocol",
    "NothingGained": "an action had nothing to spend, or a call brought no collateral",
    "ReceivedTooLittle": "an action or conversion received less than its minimum",
    "UnknownFunction": "the contract has no such function",
    "DebtBelowMinimum": "skipped: the debt is below the planned minimum",
    "NothingLeft": "no item of the group survived, so nothing was sold",
    "GroupUndone": "the item held, its group was undone",
    "NoReason": "reverted without a reason, or ran out of gas",
}
# Errors.sol of Aave v3.6 that a liquidation, a flash loan or a transfer can meet.
_AAVE = (
    "AssetNotListed CallerMustBePool CallerNotAToken CollateralCannotBeLiquidated FlashloanDisabled "
    "HealthFactorNotBelowThreshold HealthFactorLowerThanLiquidationThreshold InconsistentFlashloanParams "
    "InvalidAmount InvalidBurnAmount InvalidFlashloanExecutorReturn InvalidMintAmount "
    "LiquidationGraceSentinelCheckFailed MustNotLeaveDust NotEnoughAvailableUserBalance "
    "PriceOracleSentinelCheckFailed ReserveFrozen ReserveInactive ReservePaused SelfLiquidation "
    "SpecifiedCurrencyNotBorrowedByUser UnderlyingBalanceZero ZeroAddressNotValid"
)


def _selector(signature: str) -> bytes:
    return keccak(signature.encode())[:4]


UNDONE = _selector("GroupUndone()")
_LOSS = _selector("GroupLoss(uint256[])")
_ERROR = _selector("Error(string)")
_PANIC = _selector("Panic(uint256)")
_KNOWN = (
    {_selector(f"{name}()"): f"{name}: {text}" for name, text in _OWN.items()}
    | {_selector(f"{name}()"): f"Aave {name}" for name in _AAVE.split()}
    | {_LOSS: "GroupLoss: the group would gain less than its surviving items' minimums"}
)
_PANICS = {
    0x01: "assertion",
    0x11: "arithmetic overflow",
    0x12: "division by zero",
    0x32: "index out of range",
}


def explain_reason(data: bytes) -> str:
    """Say in words what revert data means; four bytes are enough except for strings and panics."""
    if not data:
        return "no reason given"
    selector, rest = data[:4], data[4:]
    if selector in _KNOWN:
        return _KNOWN[selector]
    if selector == _ERROR:
        return _string(rest)
    if selector == _PANIC:
        if len(rest) < 32:
            return "panic"
        code = int.from_bytes(rest[:32], "big")
        return f"panic 0x{code:02x}: {_PANICS.get(code, 'unknown')}"
    return f"unknown error 0x{selector.hex()}"


def _string(data: bytes) -> str:
    if not data:
        return "reverted with a message"
    try:
        return str(decode(["string"], data)[0])
    except (DecodingError, UnicodeDecodeError):
        return "reverted with an unreadable message"
