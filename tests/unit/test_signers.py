"""Signers that are not a file: a stand-in for web3signer, and plug-ins."""

import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from coincurve import PrivateKey
from eth_utils.address import to_checksum_address

from keeper.config import Wallet, load
from keeper.errors import ConfigError, TransientError
from keeper.execution import keystore, remote
from keeper.execution.checked import CheckedSigner
from keeper.execution.keystore import import_keystore
from keeper.execution.signer import KeySigner
from keeper.ports import Signer
from keeper.signers import open_signer, operator_address, readable_by_others, stated_address
from tests.plans import CONTRACT, OPERATOR_KEY, address
from tests.web3signer import StandInSigner

ROOT = Path(__file__).parents[2]
OPERATOR = KeySigner(OPERATOR_KEY).address
TRANSACTION: dict[str, int | bytes] = {
    "chainId": 1,
    "nonce": 7,
    "maxPriorityFeePerGas": 10**8,
    "maxFeePerGas": 10**11,
    "gas": 900_000,
    "to": CONTRACT,
    "value": 0,
    "data": b"\x7f" * 300,
}


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the tests half a second for each file."""
    monkeypatch.setattr(keystore, "SCRYPT_COST", 2)


def wallet(**values: object) -> Wallet:
    """Return a wallet table of the operator's account."""
    return Wallet.model_validate({"address": to_checksum_address(OPERATOR), **values})


async def opened(table: Wallet, stack: AsyncExitStack) -> Signer:
    """Open a table's signer without anybody at a terminal."""
    return await open_signer(table, "chains.x.wallet", {}, stack)


async def test_a_remote_signer_s_bytes_equal_the_key_s_own() -> None:
    async with StandInSigner(OPERATOR_KEY, 1) as server, AsyncExitStack() as stack:
        signer = await opened(wallet(remote_url=f"http://{server.host}"), stack)
        for changed in ({}, {"nonce": 0}, {"to": b""}, {"data": b""}, {"value": 2**70}):
            asked = {**TRANSACTION, **changed}
            assert await signer.sign(asked) == await KeySigner(OPERATOR_KEY).sign(asked)
        assert [each["method"] for each in server.requests[:2]] == [
            "eth_accounts",
            "eth_signTransaction",
        ]
        (sent,) = server.requests[1]["params"]
        assert sent["from"] == server.address
        assert (sent["nonce"], sent["gas"], sent["value"]) == ("0x7", "0xdbba0", "0x0")
        assert "to" not in server.requests[3]["params"][0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"nonce": 8}, "signed another transaction"),
        ({"maxFeePerGas": 10**12}, "signed another transaction"),
        ({"to": to_checksum_address(address("thief"))}, "signed another transaction"),
        ({"value": 1}, "signed another transaction"),
        ({"data": "0x"}, "signed another transaction"),
        ({"chainId": 5}, "signed another transaction"),
        ({"accessList": [{"address": "0x" + "11" * 20, "storageKeys": []}]}, "another transaction"),
    ],
)
async def test_what_was_not_asked_for_is_never_handed_on(
    change: dict[str, object], expected: str
) -> None:
    told: list[str] = []
    async with StandInSigner(OPERATOR_KEY, 1) as server, AsyncExitStack() as stack:
        server.alter = lambda asked: {**asked, **change}
        signer = await opened(wallet(remote_url=f"http://{server.host}"), stack)
        assert isinstance(signer, CheckedSigner)
        signer.on_fault = told.append
        with pytest.raises(TransientError, match=f"{expected}.*nothing was sent") as caught:
            await signer.sign(TRANSACTION)
    assert "\n" not in str(caught.value)
    assert len(told) == 1


async def test_another_key_s_signature_is_refused() -> None:
    async with StandInSigner(OPERATOR_KEY, 1) as server, AsyncExitStack() as stack:
        signer = await opened(wallet(remote_url=f"http://{server.host}"), stack)
        other = PrivateKey()
        server.answer = lambda _: "0x" + other_signature(other.secret).hex()
        with pytest.raises(TransientError, match="signed as 0x"):
            await signer.sign(TRANSACTION)


def other_signature(key: bytes) -> bytes:
    """Return the transaction signed by another key."""
    from eth_account import Account

    fields = {**TRANSACTION, "to": to_checksum_address(CONTRACT), "type": 2}
    return bytes(Account.sign_transaction(fields, key).raw_transaction)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("0x", "did not return an EIP-1559"),
        ("0xf86b", "did not return an EIP-1559"),
        ("zz", "answers with no bytes"),
        ("0x02c0", "signed another transaction"),
        ("0x02ff00", "no transaction"),
    ],
)
async def test_nonsense_is_refused(answer: str, expected: str) -> None:
    async with StandInSigner(OPERATOR_KEY, 1) as server, AsyncExitStack() as stack:
        signer = await opened(wallet(remote_url=f"http://{server.host}"), stack)
        server.answer = lambda _: answer
        with pytest.raises(TransientError, match=expected):
            await signer.sign(TRANSACTION)


@pytest.mark.parametrize("cut", [1, 2, 33, 66])
async def test_bytes_cut_short_or_lengthened_are_refused(cut: int) -> None:
    async with StandInSigner(OPERATOR_KEY, 1) as server, AsyncExitStack() as stack:
        signer = await opened(wallet(remote_url=f"http://{server.host}"), stack)
        for change in (lambda raw: raw[: -2 * cut], lambda raw: raw + "00" * cut):
            server.answer = change
            with pytest.raises(TransientError, match="refused, nothing was sent"):
                await signer.sign(TRANSACTION)


async def test_a_slow_or_failing_signer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TIMEOUT", 0.2)
    async with StandInSigner(OPERATOR_KEY, 1) as server, AsyncExitStack() as stack:
        table = wallet(remote_url=f"http://{server.host}")
        key = remote.RemoteSigner(f"http://{server.host}", OPERATOR, 0.2)
        stack.push_async_callback(key.close)
        signer = await key.open()
        server.delay = 1.0
        with pytest.raises(TransientError, match=r"does not answer in 0\.2 s"):
            await signer.sign(TRANSACTION)
        server.delay, server.status = 0.0, 500
        with pytest.raises(TransientError, match="with status 500"):
            await signer.sign(TRANSACTION)
        server.status = 200
        server.key = PrivateKey().secret
        with pytest.raises(TransientError, match="No unlocked account matches the Sender"):
            await signer.sign(TRANSACTION)
        with pytest.raises(ConfigError, match="does not hold the key of 0x"):
            await opened(table, stack)
    with pytest.raises(ConfigError, match="cannot be reached"):
        await opened(table, stack)


async def test_credentials_go_into_a_header_and_nowhere_else() -> None:
    async with StandInSigner(OPERATOR_KEY, 1) as server, AsyncExitStack() as stack:
        url = f"http://keeper:s3cr%40t@{server.host}/?key=hidden"
        table = wallet(remote_url=url)
        signer = await opened(table, stack)
        assert server.headers[0]["Authorization"] == "Basic a2VlcGVyOnMzY3JAdA=="
        server.status = 401
        with pytest.raises(TransientError) as caught:
            await signer.sign(TRANSACTION)
        shown = f"{caught.value} {signer!r} {table!r} {table.model_dump(mode='json')}"
        assert "s3cr" not in shown
        assert "hidden" not in shown


KEYSTORE = {"keystore": "k.json"}
REMOTE = {"remote_url": "https://host:9000", "address": "0x" + "11" * 20}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "takes exactly one of keystore, remote_url and signer, and has none"),
        ({**KEYSTORE, **REMOTE}, "not keystore and remote_url"),
        ({"remote_url": "https://host"}, "needs address: the account remote_url signs for"),
        ({"signer": "a:B"}, "needs address: the account signer signs for"),
        ({**REMOTE, "password_env": "PW"}, "a password for a keystore, and uses remote_url"),
        ({**KEYSTORE, "options": {"a": 1}}, "options for a signer plug-in, and uses keystore"),
        ({**REMOTE, "remote_url": "ftp://host"}, "must be a URL such as https://"),
        ({**REMOTE, "remote_url": "http://u:p4ss@host"}, "sends a password unencrypted"),
    ],
)
def test_contradictions_are_one_line(tmp_path: Path, values: dict[str, Any], expected: str) -> None:
    path = tmp_path / "keeper.toml"
    lines = [f"{key} = {toml(value)}" for key, value in values.items()]
    path.write_text(
        "[chains.x]\nchain_id = 1\nendpoints = ['ws://a']\n[chains.x.wallet]\n" + "\n".join(lines)
    )
    with pytest.raises(ConfigError, match=re.escape(expected)) as caught:
        load([path], env={})
    assert "\n" not in str(caught.value)
    assert "p4ss" not in str(caught.value)


def toml(value: object) -> str:
    """Return a value as TOML."""
    return "{a = 1}" if isinstance(value, dict) else f"'{value}'"


async def test_a_keystore_tells_or_is_asked_for_its_address(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    await import_keystore(path, OPERATOR_KEY.hex(), "pw")
    path.write_text(path.read_text().replace('"address"', '"was"'))
    table = Wallet(keystore=path)
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "pw"

    assert stated_address(table) is None
    assert await operator_address(table, "w", {}, ask) == OPERATOR
    assert asked == [f"password of {path}: "]
    with pytest.raises(ConfigError, match="no password for the keystore"):
        await operator_address(table, "w", {})
    other = Wallet.model_validate({"keystore": path, "address": "0x" + "11" * 20})
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigError, match=r"wallet\.address says 0x1111"):
            await open_signer(other, "w", {}, stack, ask)


async def test_files_others_may_read_are_told_of(tmp_path: Path) -> None:
    path, password = tmp_path / "k.json", tmp_path / "password"
    await import_keystore(path, OPERATOR_KEY.hex(), "pw")
    password.write_text("pw")
    password.chmod(0o640)
    assert readable_by_others(Wallet(keystore=path, password_file=password)) == [password]
    password.chmod(0o600)
    assert readable_by_others(Wallet(keystore=path, password_file=password)) == []


def documented() -> str:
    """Return the signer plug-in that the documentation shows."""
    text = (ROOT / "keeper" / "README.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "boto3" in b]
    return str(block)


class KeyService:
    """A stand-in for the part of AWS KMS the documented plug-in uses."""

    def __init__(self, key: bytes) -> None:
        self._key = PrivateKey(key)

    def sign(self, **request: Any) -> dict[str, bytes]:
        """Sign a digest; the answer is DER, as KMS gives it."""
        assert request["KeyId"] == "alias/operator"
        assert (request["MessageType"], request["SigningAlgorithm"]) == (
            "DIGEST",
            "ECDSA_SHA_256",
        )
        return {"Signature": self._key.sign(request["Message"], hasher=None)}


@pytest.fixture
def boto3(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put a module named boto3 in place that signs with the operator's key."""
    module: Any = ModuleType("boto3")
    module.client = lambda service, **_: KeyService(OPERATOR_KEY)
    monkeypatch.setitem(sys.modules, "boto3", module)
    return module  # type: ignore[no-any-return]


async def test_the_documented_plug_in_signs(tmp_path: Path, boto3: Any) -> None:
    from eth_account import Account

    file = tmp_path / "kms.py"
    file.write_text(documented(), encoding="utf-8")
    table = wallet(
        signer=f"{file}:Kms", options={"key_id": "alias/operator", "region": "eu-central-1"}
    )
    async with AsyncExitStack() as stack:
        signer = await opened(table, stack)
        for nonce in range(20):
            asked = {**TRANSACTION, "nonce": nonce}
            raw, _ = await signer.sign(asked)
            assert Account.recover_transaction(raw) == to_checksum_address(OPERATOR)
        boto3.client = lambda *_, **__: KeyService(PrivateKey().secret)
        with pytest.raises(ConfigError, match="signs with another key than that of 0x"):
            await opened(table, stack)
        with pytest.raises(ConfigError, match="key_id is missing"):
            await opened(wallet(signer=f"{file}:Kms"), stack)


FAILING = """
from pydantic import BaseModel

class Mine:
    class Config(BaseModel): ...
    def __init__(self, config): ...
    async def sign_digest(self, digest): raise OSError("token s3cret")
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("class Mine: pass", "has no method sign_digest or sign_transaction"),
        (
            FAILING,
            "does not start: OSError",
        ),
    ],
)
async def test_a_broken_plug_in_is_one_line(tmp_path: Path, body: str, expected: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(body)
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigError, match=expected) as caught:
            await opened(wallet(signer=f"{file}:Mine"), stack)
        assert "s3cret" not in str(caught.value)
        for use in ("absent.module:Kms", "kms"):
            with pytest.raises(ConfigError, match=r"chains\.x\.wallet\.signer"):
                await opened(wallet(signer=use), stack)
