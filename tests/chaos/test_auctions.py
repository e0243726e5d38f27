"""One auction, and fifty at once: each barked at, and taken at its moment at the estimate."""

from pathlib import Path

import pytest

from keeper.devnet import Devnet
from keeper.devnet.maker import deploy_maker
from tests.chain.test_dutch_line import storm
from tests.maker import price_of

pytestmark = pytest.mark.chain


@pytest.mark.parametrize("count", [1, 50])
async def test_urns_are_auctioned_and_their_auctions_taken(
    net: Devnet, tmp_path: Path, count: int
) -> None:
    await storm(net, deploy_maker(net, price_of(net)), tmp_path, count)
