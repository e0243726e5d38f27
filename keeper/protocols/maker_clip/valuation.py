"""Auctions and urns as positions, and which calls on them pay in the next block."""

from dataclasses import dataclass, replace

from keeper.protocols.maker_clip import rules
from keeper.protocols.maker_clip.dutch import bark, reward_down
from keeper.protocols.maker_clip.ledger import Kind, Ledger, Sale, Urn
from keeper.protocols.maker_clip.terms import ClipTerms, RewardTerms, TakeTerms, Way
from keeper.types import CollateralLeg, DebtLeg, Position, Reason, Skip, Token
from keeper.units import BPS, MAX_UINT256, RAY, WAD, Address, Bps, Wad

_TO_RAY = RAY // WAD


@dataclass(frozen=True, slots=True)
class Timing:
    """What the moment of a take is judged by: a sale's loss, what a take costs, who else is there."""

    slippage_bps: int
    cost: int
    survival_ppm: int


Found = tuple[list[ClipTerms], list[Skip]]


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges one Clipper's auctions and urns at one head; `feed` is the collateral's price in wad."""

    market: str
    protocol: str
    collateral: Token
    debt: Token
    ledger: Ledger
    kind: Kind
    figures: rules.Figures
    feed: int
    timestamp: int

    def position(self, name: Address) -> Position | None:
        """Return an auction or an urn, None when there is none of that name."""
        sale = self.ledger.sale(name)
        if sale is not None:
            return self._auctioned(name, sale)
        urn = self.ledger.urns.get(name)
        return self._owed(name, urn) if urn is not None and urn.art else None

    def _auctioned(self, name: Address, sale: Sale) -> Position:
        """Return an auction, its health the price asked over the feed's."""
        asked = self.figures.auction(sale).price_at(self.timestamp)
        worth, owed = sale.lot * self.feed // WAD, sale.tab // RAY
        held = CollateralLeg(self.collateral, sale.lot, worth, Bps(0), Bps(0))
        owing = DebtLeg(self.debt, owed, owed)
        health = Wad(asked * WAD // (self.feed * _TO_RAY))
        state = (sale.tab, sale.lot)
        return Position(
            self.market, self.protocol, name, (held,), (owing,), worth, owed, health, state=state
        )

    def _owed(self, name: Address, urn: Urn) -> Position:
        """Return an urn, its health below one exactly when the Dog may bark (dog.sol)."""
        kind = self.kind
        owed, worth = urn.art * kind.rate, urn.ink * self.feed // WAD
        threshold = Bps(min(BPS * kind.spot // (self.feed * _TO_RAY), BPS))
        held = CollateralLeg(self.collateral, urn.ink, worth, threshold, Bps(0))
        owing = DebtLeg(self.debt, owed // RAY, owed // RAY)
        health = Wad(urn.ink * kind.spot * WAD // owed)
        return Position(
            self.market,
            self.protocol,
            name,
            (held,),
            (owing,),
            worth,
            owed // RAY,
            health,
            state=(urn.ink, urn.art),
        )

    def pairs(self, position: Position, timing: Timing) -> Found:
        """Return what may be called on a position in the next block, or why nothing is."""
        if not position.state:
            return self._skip(position, Reason.DENIED, "it is begun anew in this block")
        sale = self.ledger.sale(position.borrower)
        if sale is None:
            return self._barked(position)
        tab, lot = position.state
        auction = self.figures.auction(sale._replace(tab=tab, lot=lot))
        if auction.needs_redo(self.timestamp):
            return self._redone(position, sale)
        if self.figures.stopped >= rules.NO_TAKE:
            return self._skip(position, Reason.PAUSED, "the Clipper is stopped")
        chosen = rules.best(
            auction,
            self.feed,
            timing.slippage_bps,
            timing.cost,
            timing.survival_ppm,
            self.timestamp,
        )
        if chosen is None:
            return self._skip(position, Reason.UNPROFITABLE, "no price it will fall to pays")
        if chosen.timestamp > self.timestamp:
            why = f"waiting is worth more, until {chosen.timestamp}"
            return self._skip(position, Reason.UNPROFITABLE, why)
        price = auction.price_at(self.timestamp)
        if not price:
            # Where `cusp` is nothing it falls to nothing: whoever is first gets it for the gas.
            return self._skip(position, Reason.UNPROFITABLE, "its price fell to nothing")
        return [TakeTerms(self.collateral, self.debt, auction, price, self.feed)], []

    def _redone(self, position: Position, sale: Sale) -> Found:
        figures = self.figures
        if figures.stopped >= rules.NO_REDO:
            return self._skip(position, Reason.PAUSED, "the Clipper starts nothing anew")
        pays = figures.auction(sale).pays_redo(self.feed * _TO_RAY)
        reward = reward_down(sale.tab, figures.tip, figures.chip) // RAY if pays else 0
        if not reward:
            why = "it has to be started anew, which is not rewarded"
            return self._skip(position, Reason.UNPROFITABLE, why)
        return [RewardTerms(self.debt, reward, sale.lot, Way.REDO)], []

    def _barked(self, position: Position) -> Found:
        figures, kind = self.figures, self.kind
        ink, art = position.state
        if figures.stopped >= rules.NO_BARK or not figures.barks:
            return self._skip(position, Reason.PAUSED, "no auction is started at this Clipper")
        if figures.room <= 0:
            return self._skip(position, Reason.NO_LIQUIDITY, "auctions reached their limit")
        started = bark(figures.vault(Urn(ink, art), kind))
        if started is None:
            return self._skip(position, Reason.DUST, "what may be auctioned of it is dust")
        reward = reward_down(started.tab, figures.tip, figures.chip) // RAY
        if not reward:
            return self._skip(position, Reason.UNPROFITABLE, "starting it is not rewarded")
        rest = (ink - started.lot, art - started.art)
        return [RewardTerms(self.debt, reward, art, Way.BARK, rest)], []

    def _skip(self, position: Position, reason: Reason, why: str) -> Found:
        return [], [Skip(position.market, position.protocol, position.borrower, reason, why)]


def left(position: Position, terms: ClipTerms, repay: int) -> Position:
    """Return what a call leaves: the rest of an auction or of an urn, or what begins anew.

    A redo's auction starts above every price, and a bark of a part took all the room there was: on
    both no other call pays in the same block, which an empty `state` says.
    """
    if not terms.legal_down(repay):
        return position
    (held,), (owing,) = position.collateral, position.debt
    if isinstance(terms, RewardTerms):
        if terms.way == Way.REDO:
            return replace(position, health=Wad(MAX_UINT256), state=())
        ink, art = terms.rest
        if not art:
            return position.emptied()
        owed = owing.amount * art // terms.there
        lot, state = ink, tuple[int, ...]()
    else:
        bought = terms.seize(repay)
        tab = terms.auction.tab - min(bought.received * terms.price, terms.auction.tab)
        lot = terms.auction.lot - bought.received
        if not tab or not lot:
            return position.emptied()
        owed, state = tab // RAY, (tab, lot)
    worth = held.value * lot // held.amount
    return replace(
        position,
        collateral=(replace(held, amount=lot, value=worth),),
        debt=(replace(owing, amount=owed, value=owed),),
        collateral_value=worth,
        debt_value=owed,
        state=state,
    )
