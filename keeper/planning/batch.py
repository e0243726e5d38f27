"""The nouns of one `run`: funds, items, sale actions, groups and the batch."""

from dataclasses import dataclass
from enum import IntEnum

from keeper.units import WAD, ZERO_ADDRESS, Address

NATIVE = ZERO_ADDRESS
"""The native coin, where a call spends or receives it."""


class FundKind(IntEnum):
    """Where the repaid tokens come from; numbers as in the contract."""

    INVENTORY = 0
    AAVE = 1
    UNISWAP = 2
    MORPHO = 3
    BALANCER = 4


class Protocol(IntEnum):
    """How a group liquidates; numbers as in the contract."""

    AAVE = 0
    CALL = 1


class Check(IntEnum):
    """What `Item.minimum_debt` is compared with before an item is tried; numbers as in the contract."""

    NONE = 0
    SCALED = 1
    BALANCE = 2
    VIEW = 3


class AmountMode(IntEnum):
    """What an action spends; numbers as in the contract."""

    EXACT = 0
    GAINED = 1
    SHARE = 2


@dataclass(frozen=True, slots=True)
class Fund:
    """One source of funds, opened in order and repaid in reverse.

    `source` is the lending pool, Morpho, the Balancer vault or the Uniswap V3 factory; for the latter
    `other` and `fee` (hundredths of a bip) name the pool. With `apart` all funds and groups of this token
    have a turn of their own behind the others, in the order of the batch's tokens, and are undone alone.
    """

    kind: FundKind
    token: Address
    amount: int
    source: Address = ZERO_ADDRESS
    other: Address = ZERO_ADDRESS
    fee: int = 0
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One liquidation: repay in debt-token wei, refused when the debt fell below the minimum.

    `minimum_gain` is in debt-token wei; a group whose gain is less than the sum over its surviving
    items is undone. It is negative where collateral is held instead of sold: the most it may cost.
    """

    borrower: Address
    repay: int
    minimum_debt: int = 0
    minimum_gain: int = 0


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount in wei, all the group gained so far, or a share of that in 1e18ths."""

    mode: AmountMode
    value: int = 0


GAINED = Amount(AmountMode.GAINED)


def exactly(value: int) -> Amount:
    """Return a fixed amount in wei."""
    return Amount(AmountMode.EXACT, value)


def share_of_gain(share: int) -> Amount:
    """Return a share of what the group gained and still holds, in 1e18ths."""
    if not 0 < share <= WAD:
        raise ValueError(f"share {share} is not within (0, 1e18]")
    return Amount(AmountMode.SHARE, share)


@dataclass(frozen=True, slots=True)
class Swap:
    """A direct swap in the Uniswap V3 pool of (spend, receive, fee) under an allowed factory."""

    factory: Address
    fee: int
    spend: Address
    receive: Address
    amount: Amount = GAINED
    minimum_received: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """An allowed call; `patch_at` is the offset in `data` of the 32 bytes that take the amount."""

    target: Address
    data: bytes
    spend: Address
    receive: Address
    amount: Amount = GAINED
    minimum_received: int = 0
    patch_at: int | None = None


@dataclass(frozen=True, slots=True)
class Wrap:
    """Native coin into its wrapped token."""

    wrapped: Address
    amount: Amount = GAINED


@dataclass(frozen=True, slots=True)
class Unwrap:
    """Wrapped token into the native coin."""

    wrapped: Address
    amount: Amount = GAINED


@dataclass(frozen=True, slots=True)
class Redeem:
    """Shares of an allowed ERC-4626 vault into its asset."""

    vault: Address
    asset: Address
    amount: Amount = GAINED
    minimum_received: int = 0


Action = Swap | Call | Wrap | Unwrap | Redeem


@dataclass(frozen=True, slots=True)
class Template:
    """How a group of `Protocol.CALL` liquidates: one allowed call of its `pool` for each item.

    The call is `opening`, which starts with the selector, the borrower as a word, `middle`, the repay
    as a word and `closing`; flags leave a word out. With `value` the repay, in wrapped native token,
    is sent along as native coin. An item that brings no collateral has failed unless `gainless`: some
    protocols return an error. An `unbounded` one may spend more of the debt token than the repay says,
    up to all that is there. Under `Check.VIEW` the debt is word `nth` of what `debt_token` answers to
    `view` followed by the borrower.

    With `together` one call takes a list of all borrowers behind `opening`, and nothing else. Whatever
    it brings, an item has failed whose debt did not fall below its minimum: it needs a view. Where the
    call reverts its group is undone.
    """

    opening: bytes
    middle: bytes = b""
    closing: bytes = b""
    borrower: bool = True
    amount: bool = True
    value: bool = False
    gainless: bool = False
    unbounded: bool = False
    together: bool = False
    view: bytes = b""
    nth: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Items of one pool, collateral and debt that share a sale; undone alone.

    `template` says how its items are liquidated under `Protocol.CALL`, and is None under any other.
    """

    pool: Address
    collateral: Address
    debt: Address
    items: tuple[Item, ...]
    actions: tuple[Action, ...]
    item_gas: int
    group_gas: int
    debt_token: Address = ZERO_ADDRESS
    check: Check = Check.NONE
    protocol: Protocol = Protocol.AAVE
    template: Template | None = None


@dataclass(frozen=True, slots=True)
class Minimum:
    """The least a token must have gained at the end, after repayment and tip."""

    token: Address
    gain: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One transaction: every token it can move is listed in `tokens`.

    `deadline` is a timestamp; `tip` and `refill` are native wei paid from the wrapped native gain only,
    the tip at most `tip_share` basis points of it.
    """

    deadline: int
    tokens: tuple[Address, ...]
    groups: tuple[Group, ...]
    funds: tuple[Fund, ...] = ()
    minimums: tuple[Minimum, ...] = ()
    tip: int = 0
    tip_share: int = 10_000
    refill: int = 0
