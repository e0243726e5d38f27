"""Calldata of the liquidator's functions beside `run`, and readings; the caller decides who signs."""

from eth_abi.abi import encode
from eth_hash.auto import keccak

from keeper.units import ZERO_ADDRESS, Address

LIQUIDATION_CALL = bytes.fromhex("00a718a9")
AAVE_FLASH = bytes.fromhex("42b0b77c")
MORPHO_FLASH = bytes.fromhex("e0232b42")
BALANCER_FLASH = bytes.fromhex("5c38449e")
VAULT_REDEEM = bytes.fromhex("ba087652")
FLASH_LOANS = frozenset({AAVE_FLASH, MORPHO_FLASH, BALANCER_FLASH})


def encode_allow(target: Address, selector: bytes, spender: Address = ZERO_ADDRESS) -> bytes:
    """Allow a call; `spender` gets the approval of its action, the target itself when zero."""
    return _call("allow(address,bytes4,address)", target, selector, spender)


def encode_disallow(target: Address, selector: bytes) -> bytes:
    """Take a permission back."""
    return _call("disallow(address,bytes4)", target, selector)


def encode_set_factory(factory: Address, init_code_hash: bytes) -> bytes:
    """Trust a Uniswap V3 factory's pools by the hash of their creation code; zero takes it back."""
    return _call("set_factory(address,bytes32)", factory, init_code_hash)


def encode_set_operator(operator: Address, listed: bool) -> bytes:
    """List or remove an operator."""
    return _call("set_operator(address,bool)", operator, listed)


def encode_set_budget(token: Address, per_day: int, kept: int = 0) -> bytes:
    """Set how many wei batches may use up per day, and how many `sweep` leaves."""
    return _call("set_budget(address,uint256,uint256)", token, per_day, kept)


def encode_set_conversion(spend: Address, receive: Address, per_day: int, least: int) -> bytes:
    """Let operators sell so many wei of a token per UTC day, all for `least` wei of another or more."""
    return _call("set_conversion(address,address,uint256,uint256)", spend, receive, per_day, least)


def encode_set_treasury(treasury: Address) -> bytes:
    """Set where `sweep` and `withdraw` send."""
    return _call("set_treasury(address)", treasury)


def encode_set_tip_cap(cap: int) -> bytes:
    """Set the most wei one batch may pay to the block's producer."""
    return _call("set_tip_cap(uint256)", cap)


def encode_set_refill_cap(per_day: int) -> bytes:
    """Set how many wei of profit may refill operators per day."""
    return _call("set_refill_cap(uint256)", per_day)


def encode_transfer_ownership(pending: Address) -> bytes:
    """Offer the ownership."""
    return _call("transfer_ownership(address)", pending)


def encode_accept_ownership() -> bytes:
    """Take an offered ownership."""
    return _call("accept_ownership()")


def encode_withdraw(token: Address, amount: int) -> bytes:
    """Send an amount to the treasury; the zero address is the native coin."""
    return _call("withdraw(address,uint256)", token, amount)


def encode_sweep(token: Address) -> bytes:
    """Send all above the kept amount to the treasury; anyone may."""
    return _call("sweep(address)", token)


def encode_convert(
    factory: Address,
    fee: int,
    spend: Address,
    receive: Address,
    amount: int,
    minimum: int,
    refill: int = 0,
) -> bytes:
    """Sell profit by the owner's rule in one pool; an operator may, and ask for gas out of it."""
    return _call(
        "convert(address,uint256,address,address,uint256,uint256,uint256)",
        factory,
        fee,
        spend,
        receive,
        amount,
        minimum,
        refill,
    )


def encode_is_allowed(target: Address, selector: bytes) -> bytes:
    """Read whether a call is allowed: bool."""
    return _call("is_allowed(address,bytes4)", target, selector)


def encode_spender_of(target: Address, selector: bytes) -> bytes:
    """Read who gets the approval of an allowed call: address."""
    return _call("spender_of(address,bytes4)", target, selector)


def encode_operators(operator: Address) -> bytes:
    """Read whether an operator is listed: bool."""
    return _call("operators(address)", operator)


def encode_factories(factory: Address) -> bytes:
    """Read a factory's creation code hash: bytes32."""
    return _call("factories(address)", factory)


def encode_budgets(token: Address) -> bytes:
    """Read a token's budget per day: uint256."""
    return _call("budgets(address)", token)


def encode_kept(token: Address) -> bytes:
    """Read what `sweep` leaves of a token: uint256."""
    return _call("kept(address)", token)


def encode_conversions(spend: Address, receive: Address) -> bytes:
    """Read a rule: wei per day, least wei for all of it, the day it was last used, wei sold on it."""
    return _call("conversions(address,address)", spend, receive)


def encode_spent(token: Address, day: int) -> bytes:
    """Read how much of a budget a day (timestamp // 86400) used: uint256."""
    return _call("spent(address,uint256)", token, day)


def encode_refilled(day: int) -> bytes:
    """Read how much a day refilled: uint256."""
    return _call("refilled(uint256)", day)


def encode_owner() -> bytes:
    """Read the owner: address."""
    return _call("owner()")


def encode_pending_owner() -> bytes:
    """Read who may accept the ownership: address."""
    return _call("pending_owner()")


def encode_treasury() -> bytes:
    """Read the treasury: address."""
    return _call("treasury()")


def encode_tip_cap() -> bytes:
    """Read the tip cap: uint256."""
    return _call("tip_cap()")


def encode_refill_cap() -> bytes:
    """Read the refill cap: uint256."""
    return _call("refill_cap()")


def encode_wrapped_native() -> bytes:
    """Read the wrapped native token: address."""
    return _call("WRAPPED_NATIVE()")


def _call(signature: str, *args: object) -> bytes:
    types = signature[signature.index("(") + 1 : -1]
    selector = keccak(signature.encode())[:4]
    return selector + encode(types.split(",") if types else [], args)
