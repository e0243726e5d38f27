"""One schema for TOML, environment and flags."""

from keeper.address import parse_address
from keeper.config.block_time import default_block_time
from keeper.config.complaint import complain
from keeper.config.fields import Endpoint
from keeper.config.limits import Breakers, Limits, Permitted
from keeper.config.load import Loaded, chain_named, load, shown, shown_lines
from keeper.config.relays import RelayTable
from keeper.config.schema import (
    Chain,
    FeedTable,
    Fees,
    Http,
    Journal,
    Logging,
    Market,
    Settings,
    StrategyTable,
    Venue,
)
from keeper.config.table import Table
from keeper.config.wallet import Wallet

__all__ = [
    "Breakers",
    "Chain",
    "Endpoint",
    "FeedTable",
    "Fees",
    "Http",
    "Journal",
    "Limits",
    "Loaded",
    "Logging",
    "Market",
    "Permitted",
    "RelayTable",
    "Settings",
    "StrategyTable",
    "Table",
    "Venue",
    "Wallet",
    "chain_named",
    "complain",
    "default_block_time",
    "load",
    "parse_address",
    "shown",
    "shown_lines",
]
