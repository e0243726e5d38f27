"""Signing and keystores."""

import copy
import pickle
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given, settings, strategies as st

from keeper.errors import ConfigError
from keeper.execution import keystore
from keeper.execution.keystore import (
    create_keystore,
    import_keystore,
    keystore_address,
    open_keystore,
    read_password,
    states_address,
)
from keeper.execution.signer import KeySigner
from tests.plans import CONTRACT, OPERATOR_KEY


def reference() -> Any:
    """Return the library that says what is right; importing it while tests are collected is slow."""
    from eth_account import Account

    return Account


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """Import it before any property is tried: it raises the recursion limit, which hypothesis minds."""
    reference()


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the tests half a second for each file."""
    monkeypatch.setattr(keystore, "SCRYPT_COST", 2)


@settings(deadline=None, max_examples=60)
@given(
    key=st.binary(min_size=32, max_size=32).filter(any),
    nonce=st.integers(0, 2**63),
    fee=st.integers(0, 2**100),
    gas=st.integers(21_000, 2**40),
    chain=st.integers(1, 2**32),
    data=st.binary(max_size=300),
)
async def test_bytes_equal_eth_account_s(
    key: bytes, nonce: int, fee: int, gas: int, chain: int, data: bytes
) -> None:
    transaction: dict[str, int | bytes] = {
        "chainId": chain,
        "nonce": nonce,
        "maxPriorityFeePerGas": fee // 2,
        "maxFeePerGas": fee,
        "gas": gas,
        "to": CONTRACT,
        "value": 0,
        "data": data,
    }
    try:
        wanted = reference().sign_transaction(
            {**transaction, "to": to_checksum_address(CONTRACT), "type": 2}, key
        )
    except ValueError:
        return  # not a key of the curve
    raw, tx_hash = await KeySigner(key).sign(transaction)
    assert raw == bytes(wanted.raw_transaction)
    assert tx_hash == bytes(wanted.hash)


@pytest.mark.parametrize("size", [0, 1, 54, 55, 56, 255, 256, 65_536])
async def test_every_length_of_data_is_encoded(size: int) -> None:
    transaction: dict[str, int | bytes] = {
        "chainId": 1,
        "nonce": 0,
        "maxPriorityFeePerGas": 1,
        "maxFeePerGas": 2,
        "gas": 10**6,
        "to": CONTRACT,
        "value": 0,
        "data": b"\x7f" * size,
    }
    raw, _ = await KeySigner(OPERATOR_KEY).sign(transaction)
    wanted = reference().sign_transaction(
        {**transaction, "to": to_checksum_address(CONTRACT), "type": 2}, OPERATOR_KEY
    )
    assert raw == bytes(wanted.raw_transaction)


async def test_a_negative_or_missing_field_is_refused() -> None:
    with pytest.raises(TypeError, match="chainId"):
        await KeySigner(OPERATOR_KEY).sign({"chainId": -1})


def test_the_key_cannot_be_shown_pickled_or_copied() -> None:
    signer = KeySigner(OPERATOR_KEY)
    assert signer.address == bytes.fromhex(reference().from_key(OPERATOR_KEY).address[2:])
    shown = f"{signer!r} {signer} {signer.address!r}"
    assert OPERATOR_KEY.hex() not in shown
    assert repr(OPERATOR_KEY) not in shown
    assert not hasattr(signer, "__dict__")
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            take(signer)


async def test_a_new_keystore_opens_with_its_password(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "operator.json"
    address = await create_keystore(path, "correct horse")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keystore_address(path) == address
    assert (await open_keystore(path, "correct horse")).address == address
    assert reference().decrypt(orjson.loads(path.read_bytes()), "correct horse")


async def test_an_imported_key_is_the_same_account(tmp_path: Path) -> None:
    path = tmp_path / "operator.json"
    address = await import_keystore(path, f" 0x{OPERATOR_KEY.hex()}\n", "pw")
    assert address == KeySigner(OPERATOR_KEY).address
    assert OPERATOR_KEY.hex() not in path.read_text()


async def test_a_wrong_password_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "operator.json"
    await import_keystore(path, OPERATOR_KEY.hex(), "pw")
    with pytest.raises(ConfigError, match="wrong password") as caught:
        await open_keystore(path, "guess")
    assert "\n" not in str(caught.value)
    assert "guess" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_keystore_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "operator.json"
    path.write_text("precious")
    for attempt in (create_keystore(path, "pw"), import_keystore(path, OPERATOR_KEY.hex(), "pw")):
        with pytest.raises(ConfigError, match="exists"):
            await attempt
    assert path.read_text() == "precious"


def files(folder: Path) -> list[Path]:
    """Return what a folder holds."""
    return list(folder.iterdir())


@pytest.mark.parametrize("secret", ["", "0x12", "g" * 64, "00" * 32, "ff" * 32])
async def test_what_is_no_private_key_is_refused_unseen(tmp_path: Path, secret: str) -> None:
    with pytest.raises(ConfigError, match="no private key") as caught:
        await import_keystore(tmp_path / "operator.json", secret, "pw")
    assert not secret or secret not in str(caught.value)
    assert files(tmp_path) == []


async def test_an_empty_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="empty"):
        await create_keystore(tmp_path / "operator.json", "")


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", "not json", '{"crypto": {}}', '{"crypto": 1, "version": 3}']
)
async def test_what_is_no_keystore_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "operator.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="not a keystore"):
        await open_keystore(path, "pw")
    with pytest.raises(ConfigError, match="cannot be read"):
        await open_keystore(tmp_path / "absent.json", "pw")


def test_a_password_comes_by_reference(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from file \n")
    assert read_password(file, None, {}) == "from file "
    assert read_password(None, "PW", {"PW": "from env"}) == "from env"
    assert read_password(None, None, {}, lambda _: "typed") == "typed"
    for file_name, variable in ((tmp_path / "absent", None), (None, "PW"), (None, None)):
        with pytest.raises(ConfigError):
            read_password(file_name, variable, {})


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
@pytest.mark.parametrize("password", ["", "correct horse", "pässwörd"])
async def test_keystores_of_eth_account_open(tmp_path: Path, kdf: Any, password: str) -> None:
    path = tmp_path / "operator.json"
    document = reference().encrypt(OPERATOR_KEY, password, kdf=kdf, iterations=2)
    path.write_bytes(orjson.dumps(document))
    assert (await open_keystore(path, password)).address == KeySigner(OPERATOR_KEY).address


async def test_geth_s_published_vector_opens(tmp_path: Path) -> None:
    path = tmp_path / "vector.json"
    path.write_bytes(orjson.dumps(VECTOR))
    signer = await open_keystore(path, "testpassword")
    secret = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
    assert signer.address == KeySigner(bytes.fromhex(secret)).address


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": 4}, "not a keystore keeper can open"),
        ({"kdf": "argon2id"}, "not a keystore keeper can open"),
        ({"mac": "00" * 32}, "wrong password"),
        ({"mac": "zz"}, "not a keystore"),
        ({"ciphertext": "12"}, "wrong password"),
        ({"iv": 7}, "not a keystore"),
        ({"c": "many"}, "not a keystore"),
        ({"c": -1}, "not a keystore"),
    ],
)
async def test_what_cannot_be_opened_is_named(
    tmp_path: Path, change: dict[str, object], expected: str
) -> None:
    path = tmp_path / "operator.json"
    whole = reference().encrypt(OPERATOR_KEY, "testpassword", kdf="pbkdf2", iterations=2)
    path.write_bytes(orjson.dumps(changed(whole, change)))
    with pytest.raises(ConfigError, match=expected) as caught:
        await open_keystore(path, "testpassword")
    assert "\n" not in str(caught.value)
    assert "testpassword" not in str(caught.value)


async def test_a_keystore_without_address_opens_and_a_false_address_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "operator.json"
    address = await import_keystore(path, OPERATOR_KEY.hex(), "pw")
    document = orjson.loads(path.read_bytes())
    assert states_address(path)
    path.write_bytes(orjson.dumps({**document, "address": "11" * 20}))
    with pytest.raises(ConfigError, match="states 0x1111"):
        await open_keystore(path, "pw")
    del document["address"]
    path.write_bytes(orjson.dumps(document))
    assert not states_address(path)
    assert (await open_keystore(path, "pw")).address == address


async def test_a_directory_is_no_keystore(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        await open_keystore(tmp_path, "pw")


def test_opening_loads_nothing_slow() -> None:
    code = "import sys, keeper.execution.keystore; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"eth_account", "py_ecc", "eth_keyfile"} & set(done.stdout.split())


VECTOR = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
"""The PBKDF2 vector of the Web3 Secret Storage definition."""


def changed(document: dict[str, Any], change: Mapping[str, object]) -> dict[str, Any]:
    """Return a document with values replaced wherever their keys stand."""
    return {
        key: changed(value, change) if isinstance(value, dict) else change.get(key, value)
        for key, value in document.items()
    }
