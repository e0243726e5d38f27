"""Panels that the overview and the fleet show alike, each for its own selection."""

from grafana import limits
from grafana.panel import Panel, Query, above, below


def breakers(selector: str, description: str) -> Panel:
    """Return whether breakers stop sending."""
    return Panel(
        "Breakers",
        "stat",
        "bool_yes_no",
        description,
        [
            Query(
                f"max by (chain, breaker) (keeper_breaker_open{{{selector}}})",
                "{{chain}} {{breaker}}",
            )
        ],
        width=8,
        steps=above(limits.SET),
        alert="KeeperBreakerOpen",
    )


def head_age(selector: str, description: str) -> Panel:
    """Return the age of each chain's head, as a share of what is allowed."""
    return Panel(
        "Head age of what is allowed",
        "stat",
        "percentunit",
        "Three block times and 15 seconds are allowed. Beyond: " + description,
        [
            Query(
                f"(time() - max by (chain) (keeper_head_timestamp_seconds{{{selector}}} > 0))"
                f" / ({limits.HEAD_GRACE_BLOCKS}"
                f" * max by (chain) (keeper_block_time_seconds{{{selector}}})"
                f" + {limits.HEAD_GRACE_SECONDS})",
                "{{chain}}",
            )
        ],
        width=4,
        steps=above(limits.HEAD_LATE),
        decimals=0,
        alert="KeeperHeadStale",
    )


def gas_left(selector: str, by: str, width: int, description: str) -> Panel:
    """Return how many transactions each wallet can pay for; `by` says whose costs are compared."""
    return Panel(
        "Gas left",
        "stat",
        "none",
        description + " Red: fund it.",
        [
            Query(
                f"keeper_wallet_balance_ether{{{selector}}} / on ({by}) group_left () clamp_min("
                f"max by ({by}) (max_over_time(keeper_plan_cost_ether{{{selector}}}[6h])), 1e-9)",
                "{{chain}} {{wallet}}",
            )
        ],
        width=width,
        steps=below(limits.GAS_TRANSACTIONS),
        alert="KeeperWalletRunningDry",
        decimals=0,
    )
