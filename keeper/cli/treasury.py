"""`keeper wallet sweep`, `convert` and `refill`: profit to the treasury, sold, or for the wallets' gas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from keeper.cli.options import AsJson, ChainName, Configs, Overrides, run_async, settings_from
from keeper.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keeper.app.till import Row, Till
    from keeper.config import Settings, Wallet
    from keeper.types import Included
    from keeper.units import Address

Tokens = Annotated[
    list[str],
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="Only this one, by symbol or address, or `native`; repeatable.",
        default_factory=list,
        show_default=False,
    ),
]


def sweep(
    configs: Configs,
    overrides: Overrides,
    token: Tokens,
    chain: ChainName = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Show what would be done; send nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send what the contract holds to the owner's treasury, each token that is worth its gas.

    While a keeper runs in the same home it is asked to, since the wallet's nonces are its own.
    """
    from keeper import log
    from keeper.config import chain_named

    log.configure("warning", "auto")
    settings = settings_from(configs, overrides).settings
    name = chain_named(settings, chain)
    named = [_named(text) for text in token]
    raise typer.Exit(run_async(_sweep(settings, name, named, dry=dry, as_json=as_json)))


def refill(
    configs: Configs,
    overrides: Overrides,
    chain: ChainName = None,
    cap: Annotated[
        str | None,
        typer.Option(
            "--cap", metavar="ETHER", help="Show what the owner signs to allow so much per day."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how profit refills the wallets' gas: the owner's cap, today's part, and what comes next.

    The contract pays a refill only out of what a batch gains, or a conversion; nothing is sent here.
    """
    from keeper import log
    from keeper.config import chain_named

    log.configure("warning", "auto")
    settings = settings_from(configs, overrides).settings
    name = chain_named(settings, chain)
    if cap is not None:
        _show_cap(settings, name, cap, as_json=as_json)
        return
    run_async(_refill(settings, name, as_json=as_json))


def convert(
    configs: Configs,
    overrides: Overrides,
    token: Annotated[
        str | None, typer.Argument(metavar="TOKEN", help="What may be sold, by symbol or address.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="TOKEN", help="Default: treasury.convert_to.")
    ] = None,
    per_day: Annotated[
        str | None, typer.Option("--per-day", metavar="AMOUNT", help="The most of it a day.")
    ] = None,
    least: Annotated[
        str | None,
        typer.Option("--least", metavar="AMOUNT", help="What all of that has to bring at least."),
    ] = None,
    chain: ChainName = None,
    as_json: AsJson = False,
) -> None:
    """Show what profit may be sold for one token by the owner's rules, and what a rule looks like.

    With a token, an amount per day and the least for it, show what the owner signs. A running keeper
    sells by itself when `treasury.convert_to` is set; nothing is sent here.
    """
    from keeper import log
    from keeper.config import chain_named

    log.configure("warning", "auto")
    settings = settings_from(configs, overrides).settings
    name = chain_named(settings, chain)
    receive = to or settings.treasury.convert_to
    if receive is None:
        raise ConfigError("treasury.convert_to is not set", "set it, or give --to TOKEN")
    if token is None:
        run_async(_conversions(settings, name, _named(receive), as_json=as_json))
        return
    if per_day is None or least is None:
        raise ConfigError("a rule has an amount and a floor", "give --per-day and --least")
    rule = _named(token), _named(receive), per_day, least
    run_async(_show_rule(settings, name, *rule, as_json=as_json))


async def _conversions(settings: Settings, name: str, receive: str, *, as_json: bool) -> None:
    from contextlib import AsyncExitStack

    from keeper.app.till import Till, chosen_rules
    from keeper.cli.screen import console, show_json, table
    from keeper.journal.history import decimal

    async with AsyncExitStack() as stack:
        till = await Till.open(settings, name, await _operators(settings, name), [], stack)
        target, rules = await chosen_rules(till, receive)
    rows = []
    for balance, rule in rules:
        left = rule.left(till.head.timestamp + till.chain.block_time)
        sold = min(balance.loose, left)
        floor = rule.floor_up(sold) if rule.per_day else 0
        cells = {
            "token": balance.token.symbol,
            "amount": decimal(balance.loose, balance.token.decimals),
            "left today": decimal(left, balance.token.decimals),
            "would be sold": decimal(sold, balance.token.decimals),
            f"floor {target.symbol}": decimal(floor, target.decimals),
        }
        rows.append(cells)
    if as_json:
        show_json({"to": target.symbol, "tokens": rows})
        return
    if not rows:
        console().print("the contract holds nothing to sell")
        return
    head = tuple(rows[0])
    console().print(table(head, [tuple(cells.values()) for cells in rows], right=head[1:]))


async def _show_rule(
    settings: Settings,
    name: str,
    token: str,
    receive: str,
    per_day: str,
    least: str,
    *,
    as_json: bool,
) -> None:
    from contextlib import AsyncExitStack

    from keeper.app.till import known_tokens
    from keeper.cli.owner import Action, show
    from keeper.planning.owner_calls import encode_set_conversion

    chain = settings.chains[name]
    if chain.contract is None:
        raise ConfigError("contract is not configured", "`keeper contract deploy`, then set it")
    async with AsyncExitStack() as stack:
        spend, bought = await known_tokens(settings, name, [token, receive], stack)
    much, floor = _wei(per_day, spend.decimals), _wei(least, bought.decimals)
    if much and not floor:
        raise ConfigError("--least is zero", "without a floor an operator's key could give it away")
    what = f"let operators sell {per_day} {spend.symbol} a day for {least} {bought.symbol} or more"
    data = encode_set_conversion(spend.address, bought.address, much, floor)
    show([Action(what, chain.contract, data)], chain.chain_id, as_json=as_json)


def _wei(text: str, decimals: int) -> int:
    found = _exact(text, decimals)
    if found is None:
        raise ConfigError(f"{text} is no amount of at most {decimals} decimals", "write 1000")
    return found


def _exact(text: str, decimals: int) -> int | None:
    """Return an amount in its smallest unit, None for what is none, is finer, or has 2^120 of them."""
    from decimal import Decimal, Inexact, localcontext

    try:
        with localcontext(prec=80) as context:
            # what is signed is what was written, to the wei
            context.traps[Inexact] = True
            value = Decimal(text).scaleb(decimals)
    except ArithmeticError:
        return None
    if not value.is_finite() or not 0 <= value < 2**120 or value != int(value):
        return None
    return int(value)


async def _sweep(
    settings: Settings, name: str, named: Sequence[str], *, dry: bool, as_json: bool
) -> int:
    import os
    from contextlib import AsyncExitStack

    from rich.markup import escape

    from keeper.app.clock import SystemClock
    from keeper.app.till import Till, send_sweeps
    from keeper.cli.screen import console, show_json
    from keeper.errors import TransientError
    from keeper.journal.home import HomeLock, open_home
    from keeper.journal.sqlite import SqliteJournal
    from keeper.signers import open_signer

    async with AsyncExitStack() as stack:
        operators = await _operators(settings, name)
        try:
            till = await Till.open(settings, name, operators, named, stack)
        except TransientError:
            # a keeper that runs knows prices that nothing else tells
            said = None if dry else _asked(settings, name)
            if said is None:
                raise
            show_json({"said": said}) if as_json else console().print(escape(said))
            return 0
        plans = till.plans(named)
        if dry or not plans:
            _show(till, [], as_json=as_json)
            return 0
        where, wallet = _lanes(settings, name)[operators.index(till.richest)]
        try:
            stack.enter_context(HomeLock(open_home(settings.journal.home)))
        except ConfigError:
            said = _asked(settings, name)
            if said is None:
                raise
            _show(till, [], as_json=as_json, said=said)
            return 0
        signer = await open_signer(wallet, where, os.environ, stack, _ask())
        journal = SqliteJournal(
            settings.journal_file, SystemClock(), settings.journal.keep_days, lambda _: None
        )
        journal.open()
        stack.callback(journal.close)
        done = await send_sweeps(till, plans, settings, signer, journal)
        _show(till, done, as_json=as_json)
    return 0


def _asked(settings: Settings, name: str) -> str | None:
    """Ask a running keeper to sweep and return what it says, None when none runs."""
    from keeper.cli.control import ask
    from keeper.errors import TransientError

    try:
        answer = ask(settings.journal.home / "control.sock", {"command": "sweep", "chain": name})
    except TransientError:
        return None
    if "error" in answer:
        raise ConfigError(str(answer["error"]))
    return str(answer["text"])


async def _refill(settings: Settings, name: str, *, as_json: bool) -> None:
    from contextlib import AsyncExitStack

    from keeper.app.till import Till
    from keeper.cli.screen import console, show_json, table
    from keeper.journal.history import decimal

    async with AsyncExitStack() as stack:
        till = await Till.open(settings, name, await _operators(settings, name), ["native"], stack)
    stock, levels = till.stock, settings.treasury
    left = stock.refillable(till.head.timestamp + till.chain.block_time)
    below = levels.refill_below
    is_due = below is not None and stock.operator < below
    wanted = min(levels.refill_to - stock.operator, left) if is_due else 0
    low = levels.warn_below(settings.limits.gas_wei_per_transaction)
    figures = {
        "wallet": decimal(stock.operator, 18),
        "warned of below": decimal(low, 18),
        "refilled below": "never" if below is None else decimal(below, 18),
        "refilled to": "–" if below is None else decimal(levels.refill_to, 18),
        "owner's cap per day": decimal(stock.refill_cap, 18),
        "refilled today": decimal(stock.refilled, 18),
        "next batch asks for": decimal(wanted, 18),
    }
    wallets = {
        _text(wallet): {"ether": decimal(ether, 18), "low": ether < low}
        for wallet, ether in till.wallets.items()
    }
    if as_json:
        named = {key.replace("'s", "").replace(" ", "_"): value for key, value in figures.items()}
        show_json({**named, "wallets": wallets})
        return
    if len(wallets) > 1:
        shown = [
            (each, str(of["ether"]), "low" if of["low"] else "") for each, of in wallets.items()
        ]
        console().print(table(("wallet", "ether", ""), shown, right=("ether",)))
        console().print("a refill is for the poorest:")
    console().print(table(("ether", ""), list(figures.items()), right=("",)))
    if not stock.refill_cap:
        console().print(
            "the owner allows none: `keeper wallet refill --cap 0.1` shows what to sign"
        )
    elif below is None:
        console().print("treasury.refill_below_ether is not set: no plan asks for a refill")


def _show_cap(settings: Settings, name: str, cap: str, *, as_json: bool) -> None:
    from keeper.cli.owner import Action, show
    from keeper.planning.owner_calls import encode_set_refill_cap

    wei = _exact(cap, 18)
    if wei is None:
        raise ConfigError("--cap must be an amount of ether per day", "--cap 0.1")
    chain = settings.chains[name]
    if chain.contract is None:
        raise ConfigError("contract is not configured", "`keeper contract deploy`, then set it")
    what = f"let profit refill operators by up to {cap} ether a day"
    action = Action(what, chain.contract, encode_set_refill_cap(wei))
    show([action], chain.chain_id, as_json=as_json)


def _lanes(settings: Settings, name: str) -> list[tuple[str, Wallet]]:
    """Return every wallet of a chain and the table it is in."""
    found = [(f"chains.{name}.{lane}", each) for lane, each in settings.chains[name].lanes.items()]
    if not found:
        raise ConfigError("no wallet is configured", f"name a keystore in [chains.{name}.wallet]")
    return found


async def _operators(settings: Settings, name: str) -> list[Address]:
    """Return the addresses of all wallets of a chain, in their order."""
    import os

    from keeper.signers import operator_address

    lanes = _lanes(settings, name)
    return [await operator_address(each, where, os.environ, _ask()) for where, each in lanes]


def _ask() -> Any:
    import sys
    from getpass import getpass

    return getpass if sys.stdin.isatty() else None


def _named(text: str) -> str:
    """Return a token's name as it is looked for: an address in lower case, checked."""
    from keeper.config import parse_address

    if not text.startswith("0x"):
        return text
    try:
        return "0x" + parse_address(text).hex()
    except ValueError as error:
        raise ConfigError(f"--token {error}") from None


def _show(till: Till, done: Sequence[Included], *, as_json: bool, said: str = "") -> None:
    from keeper.cli.screen import console, show_json, table
    from keeper.units import to_hex

    sent = {token: receipt for receipt in done for token in receipt.gains}
    rows = []
    for row in till.rows:
        receipt = sent.get(row.balance.token.address)
        cells = _cells(row)
        cells["result"] = row.why or ("left" if not row.is_worth else "would be swept")
        if receipt is not None:
            cells["result"] = f"swept in {to_hex(receipt.tx_hash)}"
        rows.append(cells)
    if as_json:
        show_json({"treasury": _text(till.stock.treasury), "said": said, "tokens": rows})
        return
    if not rows:
        console().print("the contract holds nothing")
        return
    head = tuple(rows[0])
    shown = [tuple(cells.values()) for cells in rows]
    console().print(table(head, shown, right=("amount", "kept", "USD", "gas USD")))
    console().print(f"treasury: {_text(till.stock.treasury)}")
    if said:
        console().print(said)


def _cells(row: Row) -> dict[str, str]:
    from keeper.journal.history import decimal

    balance = row.balance
    return {
        "token": balance.token.symbol,
        "amount": decimal(balance.amount, balance.token.decimals),
        "kept": decimal(min(balance.kept, balance.amount), balance.token.decimals),
        "USD": "no price" if balance.price is None else decimal(balance.value_usd_down, 8),
        "gas USD": "–" if row.cost_usd is None else decimal(row.cost_usd, 8),
    }


def _text(address: Address) -> str:
    from eth_utils.address import to_checksum_address

    return str(to_checksum_address(address))
