"""The keeper.toml that `init` writes: every choice explained where it stands."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answers:
    """What the operator said; empty text leaves a line commented out."""

    chain: str
    chain_id: int
    block_time: int
    endpoint: str
    pool: str
    factory: str
    wrapped_native: str
    contract: str
    keystore: str
    password_env: str


def render(answers: Answers) -> str:
    """Return the file's text."""
    chain = f"chains.{answers.chain}"
    return f"""\
# keeper's configuration. `keeper config schema` describes every option,
# `keeper config show --origin` shows the values in force and where each came from.
# Secrets come by reference: "${{NAME}}" from the environment, "file:PATH" from a file.

mode = "dry"                       # "live" sends transactions, if `keeper run --live` says so too

[http]
port = 9464                        # /metrics, /healthz, /readyz, /status on 127.0.0.1

[limits]                           # what no strategy can exceed
minimum_profit_usd = 5
largest_repay_usd = 1_000_000
gas_ether_per_transaction = 0.05
gas_ether_per_day = 0.5
stop_after_reverts = 3
toxic_parts = false            # true: also take parts that leave a position less healthy
kill_file = "KILL"                 # in the keeper's home folder: while it exists, nothing is sent

# [treasury]                       # profit goes to the owner's treasury by itself
# sweep_above_usd = 1000
# convert_to = "WETH"              # small balances are sold for it first, as far as the owner's rules allow
# refill_below_ether = 0.1         # and refills the wallet's gas, as far as the owner's cap allows

[{chain}]
chain_id = {answers.chain_id}
block_time = {answers.block_time}    # seconds between two blocks
endpoints = [{_text(answers.endpoint)}]
{_line("wrapped_native", answers.wrapped_native, "WETH or its like: prices gas, pays tips")}
{_line("contract", answers.contract, "printed by `keeper contract deploy`")}

[{chain}.fees]
max_fee_gwei = 200
priority_fee_gwei = 0.1

{_wallet(chain, answers)}
[{chain}.markets.aave]
protocol = "aave-v3"
pool = {_text(answers.pool)}
first_block = 0                    # any block up to the pool's first use: later means a faster start

{_venue(chain, answers)}
[strategies.profitability]
use = "profitability"              # or "./mine.py:Mine", a file beside this one
"""


def _wallet(chain: str, answers: Answers) -> str:
    lines = (
        f"[{chain}.wallet]",
        f"keystore = {_text(answers.keystore or 'operator.json')}",
        f"password_env = {_text(answers.password_env)}",
    )
    if answers.keystore:
        return "\n".join(lines) + "\n"
    return "\n".join(("# `keeper wallet new operator.json` makes one", *map(_off, lines))) + "\n"


def _venue(chain: str, answers: Answers) -> str:
    if not answers.factory:
        return ""
    hubs = f"\nhubs = [{_text(answers.wrapped_native)}]" if answers.wrapped_native else ""
    return f"""[{chain}.venues.uniswap]
venue = "uniswap-v3"
factory = {_text(answers.factory)}{hubs}
"""


def _line(key: str, value: str, why: str) -> str:
    line = f"{key} = {_text(value or '0x…')}"
    return f"{line if value else _off(line)}    # {why}"


def _off(line: str) -> str:
    return f"# {line}"


def _text(value: str) -> str:
    """Return a TOML basic string, whose escapes are JSON's."""
    return json.dumps(value, ensure_ascii=False)
