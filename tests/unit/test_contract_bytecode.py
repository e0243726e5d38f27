"""The committed artifact belongs to its source, fits the chain and is spoken to as it says."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import decode
from eth_hash.auto import keccak

from keeper.contracts import auctioneer, build, liquidator
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


def test_the_auctioneers_artifact_is_of_its_source_and_gives_itself_to_three_addresses() -> None:
    artifact = auctioneer()
    assert artifact.source_sha256 == hashlib.sha256(build.AUCTIONEER.read_bytes()).hexdigest()
    code = artifact.creation_code(ONE, TWO, THREE)
    assert code == artifact.bytecode + b"".join(each.rjust(32, b"\0") for each in (ONE, TWO, THREE))
    assert artifact.is_code(artifact.runtime + bytes(7 * 32))
    assert not artifact.is_code(artifact.runtime + bytes(6 * 32))
    assert not artifact.is_code(bytes(len(artifact.runtime) + 7 * 32))


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
        "max_call",
        "max_funds",
        "max_group",
        "max_groups",
        "max_items",
        "max_middle",
        "max_minimums",
        "max_results",
        "max_return",
        "max_tokens",
        "max_view",
        "max_viewed",
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
    assert rest == callbacks | {"run", "run_apart", "run_group"}


@pytest.mark.parametrize(("path", "count"), [(build.SOURCE, 20), (build.AUCTIONEER, 7)])
def test_every_function_others_can_call_says_what_it_does(path: Path, count: int) -> None:
    source = path.read_text(encoding="utf-8")
    functions = re.split(r"^@(?:external|deploy)$", source, flags=re.MULTILINE)[1:]
    assert len(functions) >= count
    for function in functions:
        head, _, body = function.partition(':\n    """\n')
        assert body.startswith("    @notice "), head


def test_every_error_of_the_source_can_be_explained() -> None:
    source = build.SOURCE.read_text(encoding="utf-8")
    raised = set(re.findall(r"_fail\(([A-Z_]+)\)|([A-Z_]+) << 128", source))
    raised = {first or second for first, second in raised}
    assert len(raised) >= 20
    for name, number in _reasons(source).items():
        raised.discard(name)
        told = reasons.explain_reason(number.to_bytes(4, "big"))
        assert told.startswith(_error_of(source, name).split("(")[0]), name
    assert not raised


def test_the_own_reasons_written_as_numbers_are_selectors() -> None:
    source = build.SOURCE.read_text(encoding="utf-8")
    found = _reasons(source)
    assert len(found) >= 20
    for name, number in found.items():
        signature = _error_of(source, name)
        assert keccak(signature.encode())[:4] == number.to_bytes(4, "big"), signature
        assert f"= {number}  # 0x{number:08x}" in source, name


def _reasons(source: str) -> dict[str, int]:
    """Return the error constants of the source."""
    told = source.split("# Own reasons", 1)[1].split("\n\n", 1)[0]
    found = re.findall(r"^([A-Z_]+): constant\(uint256\) = (\d+)", told, re.MULTILINE)
    return {name: int(number) for name, number in found}


def _error_of(source: str, name: str) -> str:
    """Return an error's signature: as its comment says, else the constant's words."""
    written = re.search(rf"^{name}: .*# 0x[0-9a-f]{{8}} (\S+)$", source, re.MULTILINE)
    if written:
        return written[1]
    return "".join(word.capitalize() for word in name.split("_")) + "()"


def test_every_refused_selector_matches_its_comment() -> None:
    source = build.SOURCE.read_text(encoding="utf-8")
    listed = source.split("# Selectors of calls", 1)[1].split("\n\n", 1)[0]
    comments = " ".join(line[1:] for line in listed.splitlines() if line.startswith("#"))
    signatures = re.findall(r"[a-zA-Z]\w*\(.*?\)(?=[,.](?:\s|$))", comments)
    selectors = "".join(re.findall(r'x"([0-9a-f]+)"', listed))
    assert len(signatures) >= 70
    assert selectors == "".join(keccak(text.encode())[:4].hex() for text in signatures)
    assert f"range({len(signatures)})" in source


def test_the_abi_is_plain_json() -> None:
    assert json.loads(build.ARTIFACT.read_text(encoding="utf-8"))["abi"] == list(liquidator().abi)
