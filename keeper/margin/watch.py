"""Who is watched, and how."""

from dataclasses import dataclass

from keeper.margin.levels import Habits, Ladder
from keeper.margin.outlook import Chances
from keeper.units import Address, Usd, Wad


@dataclass(frozen=True, slots=True)
class Watch:
    """One list of positions: what it takes in, its levels, and who is told.

    Positions are taken in when every criterion that is set holds; `addresses` and `above` say who,
    `chains`, `protocols` and `markets` where. `chances` raise the ladder in a wild market. `pagers`
    are told besides `channels` of what nobody acknowledged.
    """

    name: str
    channels: tuple[str, ...]
    ladder: Ladder
    habits: Habits = Habits()  # noqa: RUF009  # frozen
    chances: Chances | None = None
    target: Wad = Wad(15 * 10**17)
    pagers: tuple[str, ...] = ()
    addresses: frozenset[Address] | None = None
    above: Usd | None = None
    chains: frozenset[str] | None = None
    protocols: frozenset[str] | None = None
    markets: frozenset[str] | None = None

    def covers(self, chain: str, market: str, protocol: str) -> bool:
        """Say whether positions of a market may be on the list."""
        return (
            (self.chains is None or chain in self.chains)
            and (self.markets is None or market in self.markets)
            and (self.protocols is None or protocol in self.protocols)
        )
