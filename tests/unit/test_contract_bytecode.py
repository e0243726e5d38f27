"""The committed artifact belongs to its source, fits the chain and is spoken to as it says."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from eth_abi.abi import decode
from eth_hash.auto import keccak

from keeper.contracts import build, liquidator
from keeper.planning import owner_calls, reasons
from keeper.planning.encoding import RUN
from keeper.units import Address

ONE, TWO, THREE = (Address(bytes([n]) * 20) for n in (1, 2, 3))
EIP_170 = 24_576
EIP_3860 = 49_152


def test_the_artifact_names_its_source_and_compiler() -> None:
    source = build.SOURCE.read_bytes()
    artifact = liquidator()
    assert artifact.source_sha256 == hashlib.sha256(source).hexdigest()
    assert f"# pragma version {artifact.compiler}\n".encode() in source
    assert f"# pragma evm-version {artifact.evm_version}\n".encode() in source
    assert artifact.evm_version == "cancun"


def test_it_fits_the_chain() -> None:
    artifact = liquidator()
    assert len(artifact.runtime_code(ONE)) <= EIP_170
    assert len(artifact.creation_code(ONE, TWO, THREE)) <= EIP_3860


def test_the_bounds_hold_a_hundred_items_and_groups() -> None:
    bounds = liquidator().bounds
    assert bounds["max_items"] >= 100
    assert bounds["max_groups"] >= 100
    assert bounds["max_tokens"] == 16
    assert set(bounds) == {
        "item_reserve",
        "max_actions",
        "max_addresses",
        "max_batch",
        "max_funds",
        "max_group",
        "max_groups",
        "max_items",
        "max_minimums",
        "max_results",
        "max_return",
        "max_tokens",
        "run_reserve",
    }
    # What a group of the most items returns fits what the caller copies.
    assert bounds["max_return"] >= 4 + 64 + 32 * (bounds["max_items"] + 1)
    assert bounds["max_results"] == bounds["max_items"] + 1


def test_creation_code_ends_with_its_arguments() -> None:
    artifact = liquidator()
    code = artifact.creation_code(ONE, TWO, THREE)
    assert code.startswith(artifact.bytecode)
    given = decode(["address"] * 3, code[len(artifact.bytecode) :])
    assert given == tuple("0x" + f"{i:02d}" * 20 for i in (1, 2, 3))


def _signature(entry: Mapping[str, Any]) -> str:
    return str(entry["name"]) + "(" + ",".join(i["type"] for i in entry["inputs"]) + ")"


def test_every_owner_call_is_in_the_interface() -> None:
    functions = {
        keccak(_signature(entry).encode())[:4]: entry
        for entry in liquidator().abi
        if entry["type"] == "function"
    }
    assert RUN in functions
    a, h = b"\1" * 20, b"\2" * 32
    encoders: dict[Callable[..., bytes], tuple[Any, ...]] = {
        owner_calls.encode_allow: (a, b"\1\2\3\4"),
        owner_calls.encode_disallow: (a, b"\1\2\3\4"),
        owner_calls.encode_set_factory: (a, h),
        owner_calls.encode_set_operator: (a, True),
        owner_calls.encode_set_budget: (a, 1),
        owner_calls.encode_set_conversion: (a, a, 1, 1),
        owner_calls.encode_convert: (a, 500, a, a, 1, 1),
        owner_calls.encode_conversions: (a, a),
        owner_calls.encode_set_treasury: (a,),
        owner_calls.encode_set_tip_cap: (1,),
        owner_calls.encode_set_refill_cap: (1,),
        owner_calls.encode_transfer_ownership: (a,),
        owner_calls.encode_accept_ownership: (),
        owner_calls.encode_withdraw: (a, 1),
        owner_calls.encode_sweep: (a,),
        owner_calls.encode_is_allowed: (a, b"\1\2\3\4"),
        owner_calls.encode_spender_of: (a, b"\1\2\3\4"),
        owner_calls.encode_operators: (a,),
        owner_calls.encode_factories: (a,),
        owner_calls.encode_budgets: (a,),
        owner_calls.encode_kept: (a,),
        owner_calls.encode_spent: (a, 1),
        owner_calls.encode_refilled: (1,),
        owner_calls.encode_owner: (),
        owner_calls.encode_pending_owner: (),
        owner_calls.encode_treasury: (),
        owner_calls.encode_tip_cap: (),
        owner_calls.encode_refill_cap: (),
        owner_calls.encode_wrapped_native: (),
    }
    covered = {encoder(*arguments)[:4] for encoder, arguments in encoders.items()}
    assert len(covered) == len(encoders)
    assert covered <= set(functions)
    callbacks = {
        "executeOperation",
        "onMorphoFlashLoan",
        "receiveFlashLoan",
        "uniswapV3FlashCallback",
        "uniswapV3SwapCallback",
    }
    rest = {functions[selector]["name"] for selector in set(functions) - covered}
    assert rest == callbacks | {"run", "run_group"}


def test_every_function_others_can_call_says_what_it_does() -> None:
    source = build.SOURCE.read_text(encoding="utf-8")
    functions = re.split(r"^@(?:external|deploy)$", source, flags=re.MULTILINE)[1:]
    assert len(functions) >= 20
    for function in functions:
        head, _, body = function.partition(':\n    """\n')
        assert body.startswith("    @notice "), head


def test_every_error_of_the_source_can_be_explained() -> None:
    source = build.SOURCE.read_text(encoding="utf-8")
    raised = {part.split('"')[0] for part in source.split('raw_revert(method_id("')[1:]}
    assert len(raised) >= 15
    for signature in raised | {"GroupLoss(uint256[])"}:
        name = signature.split("(")[0]
        told = reasons.explain_reason(keccak(signature.encode())[:4])
        assert told.startswith(name), signature


def test_the_own_reasons_written_as_numbers_are_selectors() -> None:
    source = build.SOURCE.read_text(encoding="utf-8")
    for name in (
        "DebtBelowMinimum()",
        "NothingLeft()",
        "GroupUndone()",
        "NoReason()",
        "GroupLoss(uint256[])",
    ):
        number = int.from_bytes(keccak(name.encode())[:4], "big")
        assert f"= {number}  # 0x{number:08x}" in source, name


def test_every_refused_selector_matches_its_comment() -> None:
    source = build.SOURCE.read_text(encoding="utf-8")
    listed = source.split("REFUSED: constant", 1)[1].split("]\n\n", 1)[0]
    lines = [line.strip() for line in listed.splitlines() if line.strip().startswith("0x")]
    assert len(lines) >= 35
    for line in lines:
        value, _, signature = line.partition(",  # ")
        assert value == "0x" + keccak(signature.encode())[:4].hex(), signature


def test_the_abi_is_plain_json() -> None:
    assert json.loads(build.ARTIFACT.read_text(encoding="utf-8"))["abi"] == list(liquidator().abi)
