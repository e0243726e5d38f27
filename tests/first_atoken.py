"""The aToken of Aave v3.0.0 from its package: of revision 1, as v3.0.1's is, and with other events."""

import base64
import hashlib
import json
import shutil
import tarfile
from pathlib import Path

from eth_abi.abi import encode

from keeper.chain.codes import IMPLEMENTATION_SLOT
from keeper.devnet import Devnet
from keeper.devnet.cache import cached, fingerprint
from keeper.devnet.toolchain import find_node, run_tool
from keeper.units import to_hex

PACKAGE = "@aave/core-v3@1.16.2"
INTEGRITY = "sha512-COze5EN2kFVRSkwmpV5+5m5GaRvJWC587/0e6Z5NlTSXZ38CF+SeuKtMXhFgBXk2oDgYbuKwvjuBk+vJMgThYg=="
_ARTIFACT = "package/artifacts/contracts/protocol/tokenization/AToken.sol/AToken.json"


def put_first_atokens(net: Devnet) -> None:
    """Let every aToken of the local v3.0 market run v3.0.0's code."""
    market = net.market
    logic = net.deploy(_code() + encode(["address"], [market.pool]))
    for token in market.tokens.values():
        slot, value = hex(IMPLEMENTATION_SLOT), "0x" + logic.rjust(32, b"\0").hex()
        net.rpc("anvil_setStorageAt", to_hex(token.a_token), slot, value)


def _code() -> bytes:
    folder = cached("aave-v3.0.0", fingerprint([PACKAGE.encode(), INTEGRITY.encode()]), _build)
    return bytes.fromhex(json.loads((folder / "AToken.json").read_text())["bytecode"][2:])


def _build(folder: Path) -> None:
    command = [*find_node().npm, "pack", PACKAGE, "--silent"]
    run_tool(command, folder, "npm pack failed", "check the network and retry")
    (package,) = folder.glob("*.tgz")
    found = "sha512-" + base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    assert found == INTEGRITY, f"{PACKAGE} is not what it was: {found}"
    with tarfile.open(package) as archive:
        content = archive.extractfile(_ARTIFACT)
        assert content is not None
        with (folder / "AToken.json").open("wb") as out:
            shutil.copyfileobj(content, out)
    package.unlink()
