"""`keeper contract`: deploy, verify, allow, keep and withdraw, as the owner."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keeper.cli.grouped import Grouped
from keeper.cli.options import AsJson, ChainName, Configs, Overrides, run_async, settings_from
from keeper.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from keeper.chain.endpoint import Endpoint
    from keeper.cli.owner import Action, Owner
    from keeper.config import Chain
    from keeper.units import Address

app = typer.Typer(
    cls=Grouped,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Deploy, verify and administer the liquidator contract.",
)

NATIVE = "native"

Keystore = Annotated[
    Path | None,
    typer.Option(
        "--keystore", metavar="FILE", help="The owner's keystore; without it nothing is sent."
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", metavar="FILE", help="File that holds its password."),
]
PasswordEnv = Annotated[
    str | None,
    typer.Option(
        "--password-env", metavar="NAME", help="Environment variable that holds its password."
    ),
]


@app.command()
def deploy(
    configs: Configs,
    overrides: Overrides,
    owner: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Cold wallet that will own the contract.")
    ],
    treasury: Annotated[str, typer.Option(metavar="ADDRESS", help="Where profit may be swept to.")],
    chain: ChainName = None,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    password_env: PasswordEnv = None,
    as_json: AsJson = False,
) -> None:
    """Deploy the liquidator: print the creation code, or send it with a keystore."""
    from keeper.cli.owner import Action, Owner
    from keeper.contracts import liquidator

    table = _chain(configs, overrides, chain)
    if table.wrapped_native is None:
        raise ConfigError("wrapped_native is not configured", "set it in the chain's table")
    code = liquidator().creation_code(
        _address(owner, "--owner"), _address(treasury, "--treasury"), table.wrapped_native
    )
    action = Action("deploy the liquidator", None, code)
    key = Owner(keystore, password_file, password_env)
    run_async(_carry_out(table, key, [action], as_json=as_json))


@app.command("deploy-auctioneer")
def deploy_auctioneer(
    configs: Configs,
    overrides: Overrides,
    clip: Annotated[str, typer.Option(metavar="ADDRESS", help="The Clipper it is for.")],
    gem_join: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The join of the Clipper's collateral.")
    ],
    dollar_join: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The join of the stablecoin: DaiJoin, UsdsJoin.")
    ],
    chain: ChainName = None,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    password_env: PasswordEnv = None,
    as_json: AsJson = False,
) -> None:
    """Deploy what calls one of Maker's Clippers: print the creation code, or send it."""
    from keeper.cli.owner import Action, Owner
    from keeper.contracts import auctioneer

    code = auctioneer().creation_code(
        _address(clip, "--clip"),
        _address(gem_join, "--gem-join"),
        _address(dollar_join, "--dollar-join"),
    )
    action = Action("deploy the auctioneer", None, code, "auctioneer")
    key = Owner(keystore, password_file, password_env)
    table = _chain(configs, overrides, chain)
    run_async(_carry_out(table, key, [action], as_json=as_json))


@app.command()
def verify(
    configs: Configs, overrides: Overrides, chain: ChainName = None, as_json: AsJson = False
) -> None:
    """Compare the contract's code with the committed bytecode, and look at its roles."""
    table = _chain(configs, overrides, chain)
    raise typer.Exit(run_async(_verify(table, as_json=as_json)))


@app.command()
def allow(
    configs: Configs,
    overrides: Overrides,
    chain: ChainName = None,
    operator: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Operator to list; default the configured wallets."),
    ] = None,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    password_env: PasswordEnv = None,
    as_json: AsJson = False,
) -> None:
    """Allow what the configured markets, venues and wallet need and the contract lacks."""
    from keeper.cli.owner import Owner

    table = _chain(configs, overrides, chain)
    key = Owner(keystore, password_file, password_env)
    named = None if operator is None else _address(operator, "--operator")
    run_async(_allow(table, key, named, as_json=as_json))


@app.command()
def withdraw(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Token address, or `native`.")],
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="Amount in whole tokens, or `all`.")
    ],
    configs: Configs,
    overrides: Overrides,
    chain: ChainName = None,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    password_env: PasswordEnv = None,
    as_json: AsJson = False,
) -> None:
    """Send tokens from the contract to its treasury."""
    from keeper.cli.owner import Owner
    from keeper.units import ZERO_ADDRESS

    table = _chain(configs, overrides, chain)
    target = ZERO_ADDRESS if token == NATIVE else _address(token, "TOKEN")
    key = Owner(keystore, password_file, password_env)
    run_async(_withdraw(table, key, target, amount, as_json=as_json))


@app.command()
def keep(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Token address.")],
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="Amount in whole tokens, 0 for none.")
    ],
    configs: Configs,
    overrides: Overrides,
    chain: ChainName = None,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    password_env: PasswordEnv = None,
    as_json: AsJson = False,
) -> None:
    """Keep so much of a token on the contract: sweeps leave it, and debts are repaid with it."""
    from keeper.cli.owner import Owner

    table = _chain(configs, overrides, chain)
    target = _address(token, "TOKEN")
    key = Owner(keystore, password_file, password_env)
    run_async(_keep(table, key, target, amount, as_json=as_json))


async def _verify(chain: Chain, *, as_json: bool) -> int:
    from functools import partial

    from rich.markup import escape

    from keeper.chain.reader import ChainReader
    from keeper.cli.screen import console, mark, show_json
    from keeper.doctor import State, worst
    from keeper.doctor.check import look
    from keeper.doctor.contract import check_code, check_roles

    contract = _contract(chain)
    async with _rpc(chain) as rpc:
        reader = ChainReader(rpc, chain.multicall)
        checks = [
            await look("", "code", partial(check_code, reader, contract, chain.wrapped_native))
        ]
        if checks[0].state is not State.FAIL:
            for operator in await _operators(chain):
                roles = partial(check_roles, reader, contract, operator)
                checks.append(await look("", "roles", roles))
        if as_json:
            show_json([check.as_json() for check in checks])
        else:
            for check in checks:
                hint = f"  → {check.hint}" if check.hint else ""
                line = escape(f"{check.name:<6} {check.detail}{hint}")
                console().print(f" {mark(check.state)} {line}", soft_wrap=True)
        return 3 if worst(checks) is State.FAIL else 0


async def _operators(chain: Chain) -> list[Address]:
    """Return the configured wallets' addresses, asking for a password where only that tells one."""
    import os
    import sys
    from getpass import getpass

    from keeper.signers import operator_addresses

    ask = getpass if sys.stdin.isatty() else None
    return await operator_addresses(chain.lanes, "chains", os.environ, ask)


async def _allow(chain: Chain, owner: Owner, operator: Address | None, *, as_json: bool) -> None:
    from keeper.cli.owner import Action
    from keeper.doctor.permissions import missing

    contract = _contract(chain)
    operators = await _operators(chain) if operator is None else [operator]
    async with _rpc(chain) as rpc:
        lacking = await missing(rpc, chain, contract, operators)
    actions = [Action(each.what, contract, each.data) for each in lacking]
    if not actions and not as_json:
        print("nothing to allow: the contract has every permission the configuration needs")
        return
    await _carry_out(chain, owner, actions, as_json=as_json)


async def _withdraw(
    chain: Chain, owner: Owner, token: Address, amount: str, *, as_json: bool
) -> None:
    from eth_utils.address import to_checksum_address

    from keeper.cli.owner import Action
    from keeper.planning.owner_calls import encode_sweep, encode_withdraw
    from keeper.units import ZERO_ADDRESS

    contract = _contract(chain)
    name = "native coin" if token == ZERO_ADDRESS else to_checksum_address(token)
    if amount == "all":
        action = Action(f"sweep all {name} to the treasury", contract, encode_sweep(token))
    else:
        async with _rpc(chain) as rpc:
            decimals = await _decimals(rpc, token)
        data = encode_withdraw(token, _units(amount, decimals))
        action = Action(f"withdraw {amount} {name} to the treasury", contract, data)
    await _carry_out(chain, owner, [action], as_json=as_json)


async def _keep(chain: Chain, owner: Owner, token: Address, amount: str, *, as_json: bool) -> None:
    from eth_utils.address import to_checksum_address

    from keeper.chain.reader import ChainReader
    from keeper.cli.owner import Action
    from keeper.planning.owner_calls import encode_budgets, encode_set_budget
    from keeper.types import Call

    contract = _contract(chain)
    async with _rpc(chain) as rpc:
        units = 0 if amount == "0" else _units(amount, await _decimals(rpc, token), "0")
        # what batches may use up per day is set by the same call, and stays
        told = await ChainReader(rpc, chain.multicall).call(Call(contract, encode_budgets(token)))
    data = encode_set_budget(token, int.from_bytes(told), units)
    what = f"keep {amount} {to_checksum_address(token)} on the contract"
    await _carry_out(chain, owner, [Action(what, contract, data)], as_json=as_json)


async def _carry_out(chain: Chain, owner: Owner, actions: list[Action], *, as_json: bool) -> None:
    from eth_utils.address import to_checksum_address

    from keeper.cli.owner import send, show
    from keeper.cli.screen import show_json

    signer = await owner.signer()
    if signer is None:
        show(actions, chain.chain_id, as_json=as_json)
        return
    done = []
    async with _rpc(chain) as rpc:
        for action in actions:
            receipt = await send(rpc, signer, chain, action)
            created = receipt.get("contractAddress")
            shown = None if created is None else to_checksum_address(created)
            done.append({"what": action.what, "tx": receipt["transactionHash"], "contract": shown})
            if not as_json:
                print(f"{action.what}: {receipt['transactionHash']}")
                if shown:
                    print(f'{action.name} = "{shown}"')
    if as_json:
        show_json(done)


@asynccontextmanager
async def _rpc(chain: Chain) -> AsyncIterator[Endpoint]:
    """Yield the first endpoint that answers for the configured chain, once."""
    from contextlib import AsyncExitStack

    from keeper.doctor.node import ask_all, dial, judge_endpoints

    async with AsyncExitStack() as stack:
        endpoints = await dial(chain, stack)
        answers = await ask_all(endpoints)
        judge_endpoints(answers, chain.chain_id)
        yield next(
            endpoint
            for endpoint, answer in zip(endpoints, answers, strict=True)
            if not answer.error
        )


async def _decimals(rpc: Endpoint, token: Address) -> int:
    from keeper.units import ZERO_ADDRESS

    if token == ZERO_ADDRESS:
        return 18
    call = {"to": "0x" + token.hex(), "data": "0x313ce567"}
    answer = await rpc.request("eth_call", [call, "latest"])
    if len(answer) != 66 or int(answer, 16) > 77:
        raise ConfigError("TOKEN is no token: it does not tell its decimals", "check the address")
    return int(answer, 16)


def _units(amount: str, decimals: int, word: str = "all") -> int:
    from decimal import Decimal

    try:
        value = Decimal(amount).scaleb(decimals)
    except ArithmeticError:
        value = Decimal(-1)
    if not value.is_finite() or value <= 0 or value != int(value):
        raise ConfigError(f"AMOUNT must be a number of at most {decimals} decimals, or `{word}`")
    return int(value)


def _chain(configs: list[Path], overrides: list[str], name: str | None) -> Chain:
    from keeper.config import chain_named

    settings = settings_from(configs, overrides).settings
    return settings.chains[chain_named(settings, name)]


def _contract(chain: Chain) -> Address:
    if chain.contract is None:
        raise ConfigError("contract is not configured", "`keeper contract deploy`, then set it")
    return chain.contract


def _address(text: str, what: str) -> Address:
    from keeper.config import parse_address
    from keeper.units import Address

    try:
        return Address(parse_address(text))
    except ValueError as error:
        raise ConfigError(f"{what} {error}") from None
