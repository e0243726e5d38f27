"""One chain's book under falling prices: curves, a grid, random futures and a cascade."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keeper.app.line import hubs_of
from keeper.app.scan import Looked, look
from keeper.config import Settings
from keeper.errors import ConfigError
from keeper.planning.routing import Router, Sales
from keeper.ports import Progress
from keeper.stress import draws, shapes
from keeper.stress.cascade import Cascade, Outcome, Standing
from keeper.stress.costs import Costs
from keeper.stress.draws import Spread
from keeper.stress.exposure import Exposure, Fallen, grids, total, volatile
from keeper.stress.moves import together, unexplained
from keeper.stress.pools import Pools
from keeper.stress.shapes import Shape
from keeper.types import FlashSource, Token
from keeper.units import Address
from keeper.volatility import log_moves

MULTIPLES = tuple(1 - k / 40 for k in range(37))
"""Prices from as they are now to a tenth, a fortieth at a time."""
GRID = tuple(0.2 + k * 0.02 for k in range(41))
"""Prices from a fifth of now to as they are."""
HOUR = 3_600.0
_SHOWN = 8
"""Symbols a note has room for."""
_NOTHING = 1e-6
"""Of all collateral: what floating point leaves when every price's part is taken off."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to play; symbols as the command line gives them.

    `columns` says which assets follow which column of a `history`. Random futures come from the
    history where there is one, else from `volatility` and `correlation`, over `hours`, whatever time
    lies between the history's rows.
    """

    shape: str = "correlated-crash"
    shocks: Sequence[str] = ()
    history: Path | None = None
    columns: Sequence[str] = ()
    grid: tuple[str, str] | None = None
    draws: int = 1_000
    seed: int = 1
    volatility: float = 0.8
    correlation: float = 0.7
    hours: int = 24
    feedback: float = 1.0


@dataclass(frozen=True, slots=True)
class Stressed:
    """What was found; a curve is who would be liquidatable at each of `MULTIPLES`, by name.

    `notes` say what of it nothing moves, or nobody knows what does.
    """

    chain: str
    head: int
    tokens: Mapping[Address, Token]
    borrowers: int
    debt_usd: float
    curves: Mapping[str, Sequence[Fallen]]
    grid: Sequence[Sequence[Fallen]]
    spread: Spread | None
    cascade: Outcome
    notes: Sequence[str] = ()


async def stress(
    settings: Settings, chain: str, asked: Asked, progress: Callable[[str], Progress] | None = None
) -> Stressed:
    """Load a chain's book and play what was asked on it; nothing is sent."""
    async with AsyncExitStack() as stack:
        looked = await look(settings, chain, stack, progress)
        return await asyncio.to_thread(play, looked, asked)


def play(looked: Looked, asked: Asked) -> Stressed:
    """Play what was asked on a book that stands still; seconds at a hundred thousand borrowers."""
    view = looked.view
    at, tokens = view.next_block, view.tokens
    standing = [
        Standing(protocol, view.prices[name], Exposure.of(protocol, view.prices[name], at))
        for name, protocol in looked.watched.markets.items()
        if name in view.prices
    ]
    exposures = [each.exposure for each in standing]
    worth = _worth(standing, tokens)
    moving = volatile(worth)
    weight = {asset: _weight(exposures, asset) for asset in tokens}
    moving.sort(key=lambda asset: -weight[asset])
    steady = sorted(worth.keys() - set(moving), key=lambda asset: -weight[asset])
    columns = _columns(asked, tokens)
    if asked.history is not None:
        shape = shapes.history(asked.history, columns)
    elif asked.shocks:
        shape = shapes.shocked(asked.shocks, tokens)
    else:
        shape = shapes.named(asked.shape, moving, steady, tokens)
    groups = {"all that moves": moving} if moving else {}
    groups |= {tokens[asset].symbol: [asset] for asset in moving[:3] if weight[asset]}
    curves = {
        name: [total([e.fallen(dict.fromkeys(group, x)) for e in exposures]) for x in MULTIPLES]
        for name, group in groups.items()
    }
    return Stressed(
        chain=looked.chain,
        head=view.head.number,
        tokens=tokens,
        borrowers=sum(len(exposure.accounts) for exposure in exposures),
        debt_usd=float(sum(exposure.at({})[1].sum() for exposure in exposures)),
        curves=curves,
        grid=_grid(asked, exposures, tokens),
        spread=_spread(asked, exposures, moving, columns, shape),
        cascade=_cascade(looked, standing, shape, asked),
        notes=unheard(standing, list(looked.watched.markets), shape, tokens),
    )


def unheard(
    standing: Sequence[Standing],
    markets: Iterable[str],
    shape: Shape,
    tokens: Mapping[Address, Token],
) -> tuple[str, ...]:
    """Return, a line each, what of these markets a shape does not reach."""
    told = {each.prices.market for each in standing}
    notes = [
        f"{name} is left out: its prices were not read" for name in markets if name not in told
    ]
    for each in standing:
        name, exposure = each.prices.market, each.exposure
        notes += [
            f"{name}: nobody knows what moves its price 0x{asset.hex()}, which stands still"
            for asset in unexplained(each.protocol, each.prices)
        ]
        stands, all_of = float(exposure.collateral[-1].sum()), float(exposure.collateral.sum())
        if stands > all_of * _NOTHING:
            notes.append(f"{name}: {stands:,.0f} USD of collateral stand still, whatever moves")
        if exposure.unread:
            notes.append(
                f"{name}: {exposure.unread:,} of {len(exposure.accounts):,} borrowers have something "
                "without a price, which counts for nothing"
            )
        if exposure.doubled:
            notes.append(
                f"{name}: {exposure.doubled:,} positions may be taken in part before they are "
                "liquidatable, which is not played"
            )
    named = dict.fromkeys(asset for step in shape.steps for asset in step)
    reached = {asset for each in standing for asset in each.exposure.assets}
    idle = [asset for asset in named if asset not in reached]
    if idle:
        notes.append(f"in nobody's position here: {_listed(idle, tokens)}")
    moving = volatile(_worth(standing, tokens))
    still = [asset for asset in moving if asset in reached and asset not in named]
    if still:
        notes.append(f"no step of this moves {_listed(still, tokens)}")
    return tuple(notes)


def _worth(standing: Sequence[Standing], tokens: Mapping[Address, Token]) -> dict[Address, float]:
    """Return dollars of the tokens that are shown; a part that is stopped may have others."""
    found = together((each.protocol, each.prices) for each in standing)
    return {asset: dollars for asset, dollars in found.items() if asset in tokens}


def _listed(assets: Sequence[Address], tokens: Mapping[Address, Token]) -> str:
    """Return the first symbols, and how many more there are."""
    shown = ", ".join(tokens[asset].symbol for asset in assets[:_SHOWN])
    return shown + (f" and {len(assets) - _SHOWN} more" if len(assets) > _SHOWN else "")


def _weight(exposures: Sequence[Exposure], asset: Address) -> float:
    return float(
        sum(
            exposure.collateral[exposure.assets.index(asset)].sum()
            for exposure in exposures
            if asset in exposure.assets
        )
    )


def _columns(asked: Asked, tokens: Mapping[Address, Token]) -> dict[str, list[Address]]:
    if asked.history is not None and not asked.columns:
        raise ConfigError("--history needs --column", "--column eth_usdt=WETH,wstETH")
    found: dict[str, list[Address]] = {}
    for each in asked.columns:
        column, given, symbols = each.partition("=")
        if not given or not column or not symbols:
            raise ConfigError(f"--column {each} is no NAME=SYMBOLS", "--column eth_usdt=WETH")
        found[column] = shapes.assets(symbols, tokens, "--column")
    return found


def _grid(
    asked: Asked, exposures: Sequence[Exposure], tokens: Mapping[Address, Token]
) -> list[list[Fallen]]:
    if asked.grid is None:
        return []
    first, second = (shapes.assets(symbols, tokens, "--grid") for symbols in asked.grid)
    if set(first) & set(second):
        raise ConfigError("--grid: an asset stands on both sides", "--grid WETH WBTC")
    return grids(exposures, first, second, GRID)


def _spread(
    asked: Asked,
    exposures: Sequence[Exposure],
    moving: Sequence[Address],
    columns: Mapping[str, Sequence[Address]],
    shape: Shape,
) -> Spread | None:
    if not asked.draws or not moving:
        return None
    if shape.seconds is not None:
        groups = list(columns.values())
        prices = [[1.0] * len(groups)]
        prices += [[step[group[0]] for group in groups] for step in shape.steps]
        table = np.array(prices)
        multiples = draws.resampled(
            log_moves(table), shape.seconds, asked.hours * HOUR, asked.draws, asked.seed
        )
    else:
        groups = [[asset] for asset in moving]
        multiples = draws.correlated(
            asked.draws,
            len(groups),
            asked.volatility,
            asked.correlation,
            asked.hours * HOUR,
            asked.seed,
        )
    return draws.spread(exposures, groups, multiples)


def _cascade(looked: Looked, standing: Sequence[Standing], shape: Shape, asked: Asked) -> Outcome:
    venues = looked.watched.venues
    table = looked.table
    router = Router(venues, table.routing.max_hops, hubs_of(table))
    pools = Pools(Sales(venues), router)
    at = looked.view.next_block

    def sources(token: Address) -> list[FlashSource]:
        lent = [
            s for market in looked.watched.markets.values() for s in market.flash_sources(token)
        ]
        return lent + [s for venue in venues.values() for s in venue.flash_sources(token)]

    costs = Costs(looked.view, sources, table.usual_priority_fee, table.fees.gas_cap)
    return Cascade(standing, pools, looked.view.tokens, at, costs, asked.feedback).run(shape)
