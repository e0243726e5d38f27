"""Owner actions: shown as calldata for a hardware wallet or Safe, or sent with an owner keystore."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keeper.errors import ConfigError, TransientError
from keeper.units import Address, Wei

if TYPE_CHECKING:
    from keeper.config import Chain
    from keeper.ports import Rpc, Signer

_POLL = 0.5
_LOOKS = 360


@dataclass(frozen=True, slots=True)
class Action:
    """One transaction of the owner; `to` is None for a deployment of what settings call `name`."""

    what: str
    to: Address | None
    data: bytes
    name: str = "contract"


@dataclass(frozen=True, slots=True)
class Owner:
    """Where the owner's key is; without a keystore actions are only shown."""

    keystore: Path | None
    password_file: Path | None
    password_env: str | None

    async def signer(self) -> Signer | None:
        """Open the keystore, or return None when there is none."""
        if self.keystore is None:
            return None
        from keeper.execution.keystore import open_keystore, read_password

        named = self.password_file is not None or self.password_env is not None
        if not named and not sys.stdin.isatty():
            raise ConfigError(
                "no password for the owner's keystore", "give --password-file or --password-env"
            )
        password = read_password(self.password_file, self.password_env, os.environ, getpass)
        return await open_keystore(self.keystore, password)


def show(actions: Sequence[Action], chain_id: int, *, as_json: bool) -> None:
    """Print what the owner has to sign."""
    from eth_utils.address import to_checksum_address

    from keeper.cli.screen import show_json

    listed = [
        {
            "what": action.what,
            "chain_id": chain_id,
            "to": None if action.to is None else to_checksum_address(action.to),
            "value": "0",
            "data": "0x" + action.data.hex(),
        }
        for action in actions
    ]
    if as_json:
        show_json(listed)
        return
    for each in listed:
        print(
            f"# {each['what']}\nto:    {each['to'] or '(new contract)'}\nvalue: 0\ndata:  {each['data']}\n"
        )
    if listed:
        print(
            "Sign with the owner's wallet, or give --keystore.",
            file=sys.stderr,
        )


async def send(rpc: Rpc, signer: Signer, chain: Chain, action: Action) -> dict[str, Any]:
    """Sign, send and follow one owner transaction; return its receipt as the node gives it."""
    from keeper.chain.reader import ChainReader
    from keeper.execution.gas import fees as choose_fees

    head = await ChainReader(rpc).head()
    chosen = choose_fees(head.next_base_fee(), chain.fees.priority_fee, chain.fees.max_fee)
    if chosen is None:
        raise TransientError("the base fee is above fees.max_fee_gwei: wait, or raise it")
    request: dict[str, Any] = {"from": _hex(signer.address), "data": _hex(action.data)}
    if action.to is not None:
        request["to"] = _hex(action.to)
    # a single call of the owner, whose failure is no silent one as a batch's would be
    needed = int(await rpc.request("eth_estimateGas", [request, "latest"]), 16)
    nonce = await rpc.request("eth_getTransactionCount", [_hex(signer.address), "pending"])
    balance = Wei(int(await rpc.request("eth_getBalance", [_hex(signer.address), "latest"]), 16))
    gas = needed * 5 // 4
    if balance < gas * chosen.max_fee:
        raise ConfigError("the owner's wallet cannot pay for gas", "send it native coin")
    raw, tx_hash = await signer.sign(
        {
            "chainId": chain.chain_id,
            "nonce": int(nonce, 16),
            "maxPriorityFeePerGas": chosen.priority_fee,
            "maxFeePerGas": chosen.max_fee,
            "gas": gas,
            "to": b"" if action.to is None else action.to,
            "value": 0,
            "data": action.data,
        }
    )
    await rpc.request("eth_sendRawTransaction", [_hex(raw)])
    for _ in range(_LOOKS):
        receipt = await rpc.request("eth_getTransactionReceipt", [_hex(tx_hash)])
        if receipt is not None:
            break
        await asyncio.sleep(_POLL)
    else:
        raise TransientError(f"{_hex(tx_hash)} is not in a block after {_LOOKS * _POLL:g} s")
    if int(receipt["status"], 16) != 1:
        raise TransientError(f"{_hex(tx_hash)} was reverted: {action.what}")
    return dict(receipt)


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
