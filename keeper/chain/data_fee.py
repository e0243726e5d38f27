"""What a rollup charges for posting a transaction, read with each head's prices."""

from collections.abc import Sequence
from typing import assert_never

from eth_abi.abi import encode
from eth_hash.auto import keccak

from keeper.errors import TransientError
from keeper.fees import ArbitrumFee, DataFee, Inclusion, OpStackFee
from keeper.types import Call, CallResult
from keeper.units import Address, Wei

GAS_PRICE_ORACLE = Address(bytes.fromhex("420000000000000000000000000000000000000f"))
"""The OP stack's predeploy with the L1 fee's parameters."""
ARB_GAS_INFO = Address(bytes(19) + b"\x6c")
"""Arbitrum's precompile with its prices; unlike NodeInterface a multicall reaches it."""

PROBE_SIZE = 1_000
"""Bytes for which the oracle's own upper bound is compared with ours."""


def _call(target: Address, signature: str, *values: int) -> Call:
    arguments = encode(["uint256"] * len(values), values)
    return Call(target, keccak(signature.encode())[:4] + arguments)


_OP_STACK = (
    _call(GAS_PRICE_ORACLE, "l1BaseFee()"),
    _call(GAS_PRICE_ORACLE, "baseFeeScalar()"),
    _call(GAS_PRICE_ORACLE, "blobBaseFee()"),
    _call(GAS_PRICE_ORACLE, "blobBaseFeeScalar()"),
    _call(GAS_PRICE_ORACLE, "getL1FeeUpperBound(uint256)", PROBE_SIZE),
    _call(GAS_PRICE_ORACLE, "getOperatorFee(uint256)", 0),
    _call(GAS_PRICE_ORACLE, "getOperatorFee(uint256)", OpStackFee.SLOPE_GAS),
)
_ARBITRUM = (_call(ARB_GAS_INFO, "getPricesInWei()"),)


def data_fee_calls(inclusion: Inclusion) -> tuple[Call, ...]:
    """Return the reads `read_data_fee` needs, none where gas is all a transaction costs."""
    match inclusion:
        case Inclusion.AUCTION | Inclusion.FIRST_COME:
            return ()
        case Inclusion.OP_STACK:
            return _OP_STACK
        case Inclusion.ARBITRUM:
            return _ARBITRUM
        case _:
            assert_never(inclusion)


def read_data_fee(inclusion: Inclusion, results: Sequence[CallResult]) -> DataFee | None:
    """Return what posting costs; None where nothing is charged.

    Raises `TransientError` when it was not told, or is not what the known formula gives: a plan must
    never be priced without it.
    """
    match inclusion:
        case Inclusion.AUCTION | Inclusion.FIRST_COME:
            return None
        case Inclusion.OP_STACK:
            return _op_stack(results)
        case Inclusion.ARBITRUM:
            return _arbitrum(results)
        case _:
            assert_never(inclusion)


def _op_stack(results: Sequence[CallResult]) -> OpStackFee:
    *parameters, constant, sloped = results
    words = [_word(result, "the GasPriceOracle's L1 fee parameters") for result in parameters]
    base_fee, scalar, blob_fee, blob_scalar, told = words
    # before Isthmus the function is missing, and so is the fee
    has_operator = constant.ok or sloped.ok or bool(constant.data)
    operator = [
        _word(each, "the operator fee") if has_operator else 0 for each in (constant, sloped)
    ]
    fee = OpStackFee(
        Wei(base_fee),
        scalar,
        Wei(blob_fee),
        blob_scalar,
        Wei(operator[0]),
        Wei(max(operator[1] - operator[0], 0)),
    )
    if fee.upper_bound(PROBE_SIZE) != told:
        raise TransientError(
            f"the GasPriceOracle asks {told} wei for {PROBE_SIZE} bytes, its parameters give "
            f"{fee.upper_bound(PROBE_SIZE)}: its formula is not the one known since Fjord"
        )
    return fee


def _arbitrum(results: Sequence[CallResult]) -> ArbitrumFee:
    """Read per L1 byte and the least L2 price: second and fourth of six (ArbGasInfo.go)."""
    (prices,) = results
    if not prices.ok or len(prices.data) != 6 * 32:
        raise TransientError("ArbGasInfo's prices cannot be read: is `inclusion` right?")
    words = [int.from_bytes(prices.data[at : at + 32], "big") for at in range(0, 192, 32)]
    return ArbitrumFee(Wei(words[1]), Wei(words[3]))


def _word(result: CallResult, what: str) -> int:
    if not result.ok or len(result.data) != 32:
        raise TransientError(f"{what} cannot be read: is `inclusion` right?")
    return int.from_bytes(result.data, "big")
