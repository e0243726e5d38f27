"""Set up on the local chain what an operator sets up on a real one: contract, wallet, settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
from eth_utils.address import to_checksum_address

from keeper.contracts import liquidator
from keeper.devnet.accounts import test_account
from keeper.devnet.devnet import Devnet
from keeper.devnet.model import Account, Market
from keeper.units import Address

UNISWAP_V3_INIT_CODE_HASH = bytes.fromhex(
    "e34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54"
)
LIQUIDATION_CALL = bytes.fromhex("00a718a9")
FLASH_LOAN_SIMPLE = bytes.fromhex("42b0b77c")
CHAIN_NAME = "devnet"
_PASSWORD = "devnet"  # noqa: S105 - of a key everyone knows
# The key is public knowledge: a costly derivation would protect nothing.
_SCRYPT_COST = 2
_ANY_AGE = 10**9
_FIRST_LANE = 100
"""Accounts of the mnemonic that nobody else plays."""


@dataclass(frozen=True, slots=True)
class Operator:
    """A deployed liquidator and who stands behind it; owner, operator and treasury differ."""

    contract: Address
    wallets: tuple[Account, ...]
    owner: bytes
    treasury: bytes

    @property
    def wallet(self) -> Account:
        """Return the first lane's account."""
        return self.wallets[0]


def deploy_operator(net: Devnet, *, seat: int = 0, lanes: int = 1) -> Operator:
    """Deploy the liquidator, allow the market and the exchange, and list the operator's lanes.

    `seat` picks the accounts, so that several operators can share one chain.
    """
    wallet, owner, treasury = net.users[3 * seat : 3 * seat + 3]
    code = liquidator().creation_code(
        Address(owner.address), Address(treasury.address), Address(net.tokens["WETH"].address)
    )
    contract = net.deploy(code, owner.address)
    allow_market(net, contract, owner.address, net.market)
    net.send(
        owner.address,
        contract,
        "set_factory(address,bytes32)",
        [net.uniswap.factory, UNISWAP_V3_INIT_CODE_HASH],
    )
    more = (test_account(_FIRST_LANE + 10 * seat + lane) for lane in range(1, lanes))
    wallets = (wallet, *more)
    for each in wallets:
        net.send(owner.address, contract, "set_operator(address,bool)", [each.address, True])
        net.rpc("anvil_setBalance", "0x" + each.address.hex(), hex(10 * 10**18))
    return Operator(Address(contract), wallets, owner.address, treasury.address)


def allow_market(net: Devnet, contract: bytes, owner: bytes, market: Market) -> None:
    """Allow liquidations and flash loans of one Aave market."""
    for selector in (LIQUIDATION_CALL, FLASH_LOAN_SIMPLE):
        arguments = [market.pool, selector, market.pool]
        net.send(owner, contract, "allow(address,bytes4,address)", arguments)


def write_settings(
    net: Devnet,
    operator: Operator,
    home: Path,
    *,
    live: bool = True,
    endpoint: str | None = None,
    markets: Mapping[str, Market] | None = None,
    minimum_profit_usd: int = 5,
    extra: str = "",
) -> Path:
    """Write keystore, password and `keeper.toml` into a folder; return the file's path."""
    from eth_account import Account as Wallet  # noqa: PLC0415 - takes seconds: on first use

    home.mkdir(parents=True, exist_ok=True)
    password = home / "password"
    password.write_text(_PASSWORD)
    password.chmod(0o600)
    keystores = [home / f"operator{lane or ''}.json" for lane in range(len(operator.wallets))]
    for keystore, wallet in zip(keystores, operator.wallets, strict=True):
        made = Wallet.encrypt(wallet.key, _PASSWORD, kdf="scrypt", iterations=_SCRYPT_COST)
        keystore.write_bytes(orjson.dumps(made))
        keystore.chmod(0o600)
    alone = f"[chains.{CHAIN_NAME}.wallet]"
    lane_table = alone if len(keystores) == 1 else f"[[chains.{CHAIN_NAME}.wallets]]"
    wallets = "\n".join(
        f'{lane_table}\nkeystore = "{keystore}"\npassword_file = "{password}"'
        for keystore in keystores
    )
    tables = "\n".join(
        f'[chains.{CHAIN_NAME}.markets.{name}]\nprotocol = "aave-v3"\npool = "{_text(market.pool)}"'
        for name, market in (markets or {"aave": net.market}).items()
    )
    path = home / "keeper.toml"
    path.write_text(
        f"""mode = "{"live" if live else "dry"}"

[http]
port = 0

[journal]
home = "{home}"

[limits]
minimum_profit_usd = {minimum_profit_usd}

[breakers]
stale_head_blocks = {_ANY_AGE}        # the chain's clock is stepped, not the wall's

[chains.{CHAIN_NAME}]
chain_id = {net.chain_id}
endpoints = ["{endpoint or net.ws_url}"]
contract = "{_text(operator.contract)}"
wrapped_native = "{_text(net.tokens["WETH"].address)}"

{wallets}

{tables}

[chains.{CHAIN_NAME}.venues.uniswap]
venue = "uniswap-v3"
factory = "{_text(net.uniswap.factory)}"

[strategies.profitability]
use = "profitability"
min_profit_usd = {minimum_profit_usd}
{extra}
"""
    )
    return path


def _text(address: bytes) -> str:
    return to_checksum_address("0x" + address.hex())
