"""What a liquidation of a cascade costs, by the models that planning goes by: its loan and its gas."""

from collections.abc import Callable, Iterable, Sequence

from keeper.errors import ConfigError
from keeper.planning.funding import choose_source
from keeper.planning.gas import (
    FUND,
    count_reserves,
    extra_gas,
    group_gas,
    item_gas,
    overhead_gas,
)
from keeper.planning.size import batch_size, sale_size, transaction_size
from keeper.stress.pools import Sale
from keeper.types import FlashKind, FlashSource, Hop, Position, Prices, Step, View
from keeper.units import USD, Address, Usd, Wei, mul_div_up

_NATIVE_UNIT = 10**18


class Costs:
    """Loans from the chain's own lenders, and gas as a share of a batch's, at the next block's fees.

    `sources` are the flash loans of a token, `gas_cap` is what one transaction may take. Raises
    `ConfigError` where no market prices the native coin.
    """

    def __init__(
        self,
        view: View,
        sources: Callable[[Address], Iterable[FlashSource]],
        priority_fee: Wei,
        gas_cap: int,
    ) -> None:
        self._sources = sources
        self._gas_cap = gas_cap
        self._gas_price = view.next_block.base_fee + priority_fee
        self._data_fee = view.data_fee
        self._native = view.native.address
        found = [
            (native, prices.unit)
            for name, prices in view.prices.items()
            if (native := view.price(name, self._native))
        ]
        if not found:
            raise ConfigError(
                f"no market of {view.chain} prices {view.native.symbol}",
                "gas cannot be weighed without",
            )
        self._price = found[0]
        self._lenders: dict[Address, list[FlashSource]] = {}

    def lender(self, step: Step, sale: Sale) -> FlashSource | None:
        """Return who lends what a call repays, and is no pool of its sale; None when nobody does."""
        token, wanted = step.terms.debt.address, step.seizure.repaid
        if wanted <= 0:
            return FlashSource(FlashKind.NONE, Address(b""), token, 0, 0)
        if token not in self._lenders:
            self._lenders[token] = list(self._sources(token))
        pools = frozenset(hop.pool for hop in hops_of(sale))
        source = choose_source(self._lenders[token], wanted, pools)
        return None if source is None or source.available < wanted else source

    def gas_usd_up(
        self,
        position: Position,
        step: Step,
        sale: Sale,
        lender: FlashSource,
        mates: int,
        prices: Prices,
    ) -> Usd:
        """Return the dollars of one call's gas among so many of a round, at these prices.

        What a transaction, its loan and its sale take is shared by as many calls as fit in one.
        """
        hops = hops_of(sale)
        ends = {step.terms.collateral.address, step.terms.debt.address}
        between = {hop.token_out for hop in hops} - ends
        shared = (
            overhead_gas(count_reserves(position), len({hop.pool for hop in hops}), len(between))
            + FUND[lender.kind]
            + group_gas(len(hops), extra_gas(hops) + step.seizure.shared_gas)
        )
        item = item_gas(position, step)
        together = max(min(mates, (self._gas_cap - shared) // item), 1)
        gas = item + -(-shared // together)
        wei = gas * self._gas_price
        if self._data_fee is not None:
            size = transaction_size(
                batch_size(2 + len(between), 1, 1, sale_size(hops), together, 5 + len(between))
            )
            wei += -(-self._data_fee.wei_up(size, gas * together) // together)
        native = prices.get(self._native)
        price, unit = self._price if not native else (native, prices.unit)
        return Usd(mul_div_up(wei * price, USD, _NATIVE_UNIT * unit))


def hops_of(sale: Sale) -> Sequence[Hop]:
    """Return every conversion a sale makes."""
    return [hop for route, _ in sale.parts for hop in route]
