"""A market of Aave v3.0 in the main one's place, for tests that work on either."""

from collections.abc import Iterator
from contextlib import contextmanager

from keeper.devnet import Devnet
from keeper.devnet.deploy_aave_v30 import add_early_market
from keeper.devnet.model import Market


@contextmanager
def early_in_place(net: Devnet) -> Iterator[Market]:
    """Let the local chain's market be one of v3.0, with the same tokens and prices."""
    before, main = net.snapshot(), net.market
    market = add_early_market(net, progress=lambda _: None)
    net.market = market
    try:
        yield market
    finally:
        net.market = main
        net.revert(before)
