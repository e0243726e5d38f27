"""Calldata of the liquidator contract: a batch packed as `keeper/contracts/liquidator.vy` reads it.

All integers are big-endian and unpadded; addresses stand once, in a table, and are named by index.

    header   deadline 8 | tokens 1 | addresses 1 | funds 1 | minimums 1 | groups 1 | items 1
             | tip share 2 | tip 16 | refill 16
    address  20 each, tokens first
    fund     kind 1, its highest bit set where its token has a turn of its own | token 1 | other token 1 | fee 3 | source 1 | amount 16
    minimum  token 1 | gain 16
    group    size 2, then protocol 1 | pool 1 | collateral 1 | debt 1 | debt token 1 | check 1 | items 1
             | actions 1 | item gas 4 | group gas 4, items, actions
             and, where it liquidates by calls: opening, middle, closing and view of the call, then the
             sizes of these 2, 1, 2 and 1 | word of the view 1 | flags 1
    item     borrower 20 | minimum gain 12, signed | repay 16 | minimum debt 16
    action   flags and kind 1 | spend 1 | receive 1 | target 1 | amount 16 | minimum received 16 | extra 4
             (fee of a swap; sizes of a call's bytes before and behind the amount, which follow)
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from eth_hash.auto import keccak

from keeper.contracts import liquidator
from keeper.planning.batch import (
    GAINED,
    NATIVE,
    Action,
    Amount,
    AmountMode,
    Batch,
    Call,
    Check,
    Fund,
    FundKind,
    Group,
    Item,
    Minimum,
    Protocol,
    Redeem,
    Swap,
    Template,
    Unwrap,
    Wrap,
    exactly,
    share_of_gain,
)
from keeper.planning.decoding import (
    GroupResult,
    ItemResult,
    RunEvent,
    RunResult,
    decode_receipt_logs,
    decode_run,
)
from keeper.planning.reasons import explain_reason
from keeper.planning.size import ITEM, Extent
from keeper.types import Plan
from keeper.units import ZERO_ADDRESS, Address, Wei

__all__ = [
    "GAINED",
    "NATIVE",
    "Action",
    "Amount",
    "AmountMode",
    "Batch",
    "BatchError",
    "Call",
    "Check",
    "Fund",
    "FundKind",
    "Group",
    "GroupResult",
    "Item",
    "ItemResult",
    "Minimum",
    "Protocol",
    "Redeem",
    "RunEvent",
    "RunResult",
    "Swap",
    "Template",
    "Unwrap",
    "Wrap",
    "decode_receipt_logs",
    "decode_run",
    "encode_run",
    "exactly",
    "explain_reason",
    "measure_group",
    "pack",
    "share_of_gain",
    "untipped",
]

RUN = keccak(b"run(bytes)")[:4]
_NATIVE_INDEX = 255
_KINDS = {Swap: 1, Call: 2, Wrap: 3, Unwrap: 4, Redeem: 5}
_UNPATCHED = 128
_ONE = Item(ZERO_ADDRESS, 0)
_TIP = slice(4 + 64 + 14, 4 + 64 + 14 + 18)
"""Where tip share and tip stand in the calldata: behind selector, offset, size and eight counts."""


class BatchError(ValueError):
    """A batch the contract cannot take; the message names the bound and the value."""


class _Table:
    """The batch's addresses in the order the contract knows them; tokens are the first."""

    def __init__(self, tokens: tuple[Address, ...]) -> None:
        self.tokens = {token: i for i, token in enumerate(tokens)}
        self.entries = dict(self.tokens)
        if len(self.tokens) != len(tokens):
            raise BatchError("a token is listed twice")

    def token(self, address: Address) -> int:
        index = self.tokens.get(address)
        if index is None:
            raise BatchError(f"token 0x{address.hex()} is not listed in the batch")
        return index

    def coin(self, address: Address) -> int:
        return _NATIVE_INDEX if address == NATIVE else self.token(address)

    def address(self, address: Address) -> int:
        return self.entries.setdefault(address, len(self.entries))


def encode_run(batch: Batch) -> bytes:
    """Return the calldata of `run`; raises BatchError."""
    packed = pack(batch)
    padding = bytes(-len(packed) % 32)
    return b"".join(
        (RUN, (32).to_bytes(32, "big"), len(packed).to_bytes(32, "big"), packed, padding)
    )


def pack(batch: Batch) -> bytes:
    """Return the packed batch; raises BatchError when the contract's bounds are exceeded."""
    bounds = liquidator().bounds
    items = sum(len(group.items) for group in batch.groups)
    _within("tokens", len(batch.tokens), bounds["max_tokens"])
    _within("funds", len(batch.funds), bounds["max_funds"])
    _within("minimums", len(batch.minimums), bounds["max_minimums"])
    _within("groups", len(batch.groups), bounds["max_groups"])
    _within("items", items, bounds["max_items"])
    if not items:
        raise BatchError("a batch needs at least one item")
    table = _Table(batch.tokens)
    body = bytearray()
    for fund in batch.funds:
        _pack_fund(body, fund, table)
    for minimum in batch.minimums:
        body.append(table.token(minimum.token))
        body += _number("minimum gain", minimum.gain, 16)
    for group in batch.groups:
        packed = _pack_group(group, table)
        _within("bytes of a group", len(packed), bounds["max_group"])
        body += len(packed).to_bytes(2, "big")
        body += packed
    _within("addresses", len(table.entries), bounds["max_addresses"])
    counts = (len(batch.tokens), len(table.entries), len(batch.funds), len(batch.minimums))
    whole = b"".join(
        (
            _number("deadline", batch.deadline, 8),
            bytes((*counts, len(batch.groups), items)),
            _number("tip share", batch.tip_share, 2),
            _number("tip", batch.tip, 16),
            _number("refill", batch.refill, 16),
            *table.entries,
            body,
        )
    )
    _within("bytes of a batch", len(whole), bounds["max_batch"])
    return whole


def measure_group(group: Group, tokens: Iterable[Address]) -> Extent:
    """Return what a group of these tokens takes up; raises BatchError where it takes too much alone."""
    table = _Table(tuple(tokens))
    packed = _pack_group(replace(group, items=(_ONE,)), table)
    _within("bytes of a group", len(packed), liquidator().bounds["max_group"])
    return Extent(frozenset(table.entries), len(packed) - ITEM)


def untipped(plan: Plan) -> Plan:
    """Return the plan without its tip to the block's builder, everything else as it is."""
    if not plan.bid.tip:
        return plan
    zeros = bytes(_TIP.stop - _TIP.start)
    calldata = plan.calldata[: _TIP.start] + zeros + plan.calldata[_TIP.stop :]
    return replace(plan, calldata=calldata, bid=replace(plan.bid, tip=Wei(0)), tips=())


def _pack_fund(out: bytearray, fund: Fund, table: _Table) -> None:
    uniswap = fund.kind is FundKind.UNISWAP
    out.append(fund.kind | fund.apart << 7)
    out.append(table.token(fund.token))
    out.append(table.token(fund.other) if uniswap else 0)
    out += _number("pool fee", fund.fee, 3)
    out.append(0 if fund.kind is FundKind.INVENTORY else table.address(fund.source))
    out += _number("fund amount", fund.amount, 16)


def _pack_group(group: Group, table: _Table) -> bytes:
    bounds = liquidator().bounds
    _within("actions", len(group.actions), bounds["max_actions"])
    if not group.items:
        raise BatchError("a group needs at least one item")
    out = bytearray(
        (
            group.protocol,
            table.address(group.pool),
            table.token(group.collateral),
            table.token(group.debt),
            0 if group.check is Check.NONE else table.address(group.debt_token),
            group.check,
            len(group.items),
            len(group.actions),
        )
    )
    out += _number("item gas", group.item_gas, 4)
    out += _number("group gas", group.group_gas, 4)
    for item in group.items:
        out += item.borrower
        out += _signed("minimum gain", item.minimum_gain, 12)
        out += _number("repay", item.repay, 16)
        out += _number("minimum debt", item.minimum_debt, 16)
    for action in group.actions:
        _pack_action(out, action, table)
    if (group.template is None) != (group.protocol is not Protocol.CALL):
        raise BatchError("a group of calls needs a template, and no other group takes one")
    if group.template is not None:
        _pack_template(out, group.template)
    return bytes(out)


def _pack_template(out: bytearray, template: Template) -> None:
    bounds = liquidator().bounds
    if len(template.opening) < 4:
        raise BatchError("a call needs a selector")
    beside = template.amount or template.value or template.middle or template.closing
    if template.together and (beside or not template.view):
        raise BatchError("a call for all takes nothing but the borrowers, and needs a view")
    _within("bytes before the borrower", len(template.opening), bounds["max_call"])
    _within("bytes before the amount", len(template.middle), bounds["max_middle"])
    _within("bytes behind the amount", len(template.closing), bounds["max_call"])
    _within("bytes of a view", len(template.view), bounds["max_view"])
    flags = (
        template.borrower,
        template.amount,
        template.value,
        template.gainless,
        template.unbounded,
        template.together,
    )
    out += template.opening + template.middle + template.closing + template.view
    out += len(template.opening).to_bytes(2, "big")
    out += len(template.middle).to_bytes(1, "big")
    out += len(template.closing).to_bytes(2, "big")
    out.append(len(template.view))
    out += _number("word of a view", template.nth, 1)
    out.append(sum(flag << place for place, flag in enumerate(flags)))


def _pack_action(out: bytearray, action: Action, table: _Table) -> None:
    spend, receive, target, minimum, extra, flags = 0, 0, 0, 0, bytes(4), 0
    before = behind = b""
    match action:
        case Swap():
            spend, receive = table.token(action.spend), table.token(action.receive)
            target, minimum = table.address(action.factory), action.minimum_received
            extra = _number("pool fee", action.fee, 3) + b"\0"
        case Call():
            spend, receive = table.coin(action.spend), table.coin(action.receive)
            target, minimum = table.address(action.target), action.minimum_received
            before, behind, flags = _split(action)
            extra = _number("call size", len(before), 2) + _number("call size", len(behind), 2)
        case Wrap():
            spend, receive = _NATIVE_INDEX, table.token(action.wrapped)
        case Unwrap():
            spend, receive = table.token(action.wrapped), _NATIVE_INDEX
        case Redeem():
            spend, receive = table.token(action.vault), table.token(action.asset)
            minimum = action.minimum_received
        case _:
            assert_never(action)
    out.append(flags | action.amount.mode << 4 | _KINDS[type(action)])
    out += bytes((spend, receive, target))
    out += _number("amount", action.amount.value, 16)
    out += _number("minimum received", minimum, 16)
    out += extra
    out += before
    out += behind


def _split(call: Call) -> tuple[bytes, bytes, int]:
    at = call.patch_at
    if at is None:
        if len(call.data) < 4:
            raise BatchError("a call needs a selector")
        return call.data, b"", _UNPATCHED
    if not 4 <= at <= len(call.data) - 32:
        raise BatchError(f"patch_at {at} lies outside the {len(call.data)} bytes of the call")
    return call.data[:at], call.data[at + 32 :], 0


def _number(name: str, value: int, size: int) -> bytes:
    if value < 0 or value >> (8 * size):
        raise BatchError(f"{name} {value} does not fit {8 * size} bits")
    return value.to_bytes(size, "big")


def _signed(name: str, value: int, size: int) -> bytes:
    half = 1 << (8 * size - 1)
    if not -half <= value < half:
        raise BatchError(f"{name} {value} does not fit {8 * size} bits")
    return value.to_bytes(size, "big", signed=True)


def _within(name: str, value: int, bound: int) -> None:
    if value > bound:
        raise BatchError(f"{value} {name}, the contract takes {bound}")
