"""A signer on another machine that speaks web3signer's JSON-RPC (`eth1` mode)."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
import orjson
from eth_utils.address import to_checksum_address

from keeper.errors import ConfigError, RpcError, TransientError
from keeper.execution.checked import CheckedSigner
from keeper.units import Address, to_hex

TIMEOUT = 2.0
"""Seconds a signature may take: a block's time is short."""


class RemoteSigner:
    """Ask a web3signer for signatures; credentials in the URL go into a header and are never shown.

    Wire format: `eth_signTransaction` with one object of hex strings, and the signed bytes as answer;
    the chain id is the signer's own setting, so it is checked in what comes back.
    """

    def __init__(self, url: str, address: Address, timeout: float = TIMEOUT) -> None:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)
        self.name = f"{host}:{parts.port}" if parts.port else host
        netloc = self.name
        self._url = urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))
        self._headers = {"Content-Type": "application/json"}
        if parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        self._address = address
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._ids = count(1)

    async def open(self) -> CheckedSigner:
        """Return the signer once it has told that it holds the key; `ConfigError` when it does not."""
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(self._timeout), trust_env=False
        )
        try:
            accounts = await self._ask("eth_accounts", [])
        except TransientError as error:
            await self.close()
            raise ConfigError(str(error), "check wallet.remote_url, and that it runs") from None
        held = {str(each).lower() for each in accounts} if isinstance(accounts, list) else set()
        if to_hex(self._address) not in held:
            await self.close()
            raise ConfigError(
                f"signer {self.name} does not hold the key of {to_checksum_address(self._address)}",
                f"it offers {', '.join(sorted(held)[:3]) or 'none'}; check wallet.address",
            )
        return CheckedSigner(f"signer {self.name}", self._address, self.sign)

    async def sign(self, transaction: Mapping[str, int | bytes]) -> bytes:
        """Return the bytes the signer makes of a transaction, unchecked."""
        asked = {
            name: to_hex(value) if isinstance(value, bytes) else hex(value)
            for name, value in transaction.items()
        }
        if not transaction["to"]:
            del asked["to"]
        answer = await self._ask("eth_signTransaction", [{"from": to_hex(self._address), **asked}])
        try:
            return bytes.fromhex(str(answer).removeprefix("0x"))
        except ValueError:
            raise TransientError(f"signer {self.name} answers with no bytes") from None

    async def close(self) -> None:
        """Let go of the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, method: str, params: Sequence[object]) -> Any:
        if self._session is None:
            raise TransientError(f"signer {self.name} is not open")
        body = {"jsonrpc": "2.0", "method": method, "params": params, "id": next(self._ids)}
        try:
            async with self._session.post(
                self._url, data=orjson.dumps(body), allow_redirects=False
            ) as answer:
                text = await answer.read()
                status = answer.status
        except TimeoutError:
            raise TransientError(
                f"signer {self.name} does not answer in {self._timeout:g} s"
            ) from None
        except aiohttp.ClientSSLError:
            raise TransientError(
                f"signer {self.name} shows no certificate that is trusted"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(
                f"signer {self.name} cannot be reached ({type(error).__name__})"
            ) from None
        try:
            document = orjson.loads(text)
        except ValueError:
            document = None
        if isinstance(document, dict) and isinstance(document.get("error"), dict):
            said, code = (
                str(document["error"].get("message", ""))[:200],
                document["error"].get("code"),
            )
            raise RpcError(
                method, code if isinstance(code, int) else 0, f"signer {self.name}: {said}"
            )
        if status != 200 or not isinstance(document, dict) or document.get("id") != body["id"]:
            raise TransientError(f"signer {self.name} answers {method} with status {status}")
        return document.get("result")

    def __repr__(self) -> str:
        return f"RemoteSigner({self.name})"
