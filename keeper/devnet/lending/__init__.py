"""The lending protocols of the local chain, each as the demo plays it."""

from collections.abc import Sequence

from keeper.devnet.devnet import Devnet
from keeper.devnet.lending.aave import AaveLending
from keeper.devnet.lending.lending import Lending
from keeper.devnet.lending.maker import MakerLending
from keeper.devnet.lending.morpho import MorphoLending
from keeper.devnet.lending.musd import MusdLending
from keeper.devnet.lending.venus import VenusLending
from keeper.devnet.operator import Operator
from keeper.devnet.toolchain import Progress

__all__ = ["LENDING", "Lending", "deploy_lending"]

LENDING: dict[str, type[Lending]] = {
    each.protocol: each
    for each in (AaveLending, MorphoLending, VenusLending, MusdLending, MakerLending)
}
"""What can be played, by the adapter's name."""


def deploy_lending(
    net: Devnet, operator: Operator, names: Sequence[str], progress: Progress
) -> list[Lending]:
    """Return these protocols, deployed and without borrowers."""
    return [LENDING[name].deployed(net, operator, progress) for name in names]
