"""Sell small balances of profit for one token by the owner's rules, when that is worth its gas."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keeper.app.stock import Stock
from keeper.errors import RpcError
from keeper.fees import DataFee
from keeper.planning.converting import (
    CONVERT_GAS,
    Offer,
    as_conversion,
    best_offer,
    encode_offer,
    has_no_rules,
    read_rule,
    rule_calls,
)
from keeper.planning.treasury import beside_gas_up, is_worth, sweep_plan
from keeper.ports import Reader, Rpc, Venue
from keeper.types import Fees, Head, NextBlock, Plan, Token
from keeper.units import ZERO_ADDRESS, Address, Bps, Usd, Wei, to_hex

NO_RULES = "the contract cannot sell: `keeper contract deploy` deploys one that can"


@dataclass(frozen=True, slots=True)
class ConvertRules:
    """What an operator fixes: into which token, and how many times its gas a sale has to be worth.

    `slippage` is how much less than the oracles' value it may bring.
    """

    chain: str
    contract: Address
    receive: Token
    wrapped: Address
    slippage: Bps
    gas_multiple: int


@dataclass(frozen=True, slots=True)
class Situation:
    """What a sale is decided on: a head, the next block, fees, dollars per ether, who signs.

    `data_fee` is what a rollup charges beside the gas.
    """

    head: Head
    at: NextBlock
    fees: Fees
    native_price: Usd
    operator: Address
    refill: Wei
    deadline: int
    data_fee: DataFee | None = None

    @property
    def gas_price(self) -> Wei:
        """Return what gas costs in the next block."""
        return self.fees.price(self.at.base_fee)


class Converter:
    """Find what can be sold now; whoever asks sends it.

    Quotes are the venues' own exact state, the least a sale may bring is the oracles' value less
    slippage, and the contract holds it to the owner's floor besides.

    Events: treasury.refused, and treasury.no_rules once.
    """

    def __init__(
        self,
        rules: ConvertRules,
        reader: Reader,
        rpc: Rpc,
        venues: Callable[[], Sequence[Venue]],
        new_id: Callable[[], str],
        tell: Callable[[str, Mapping[str, object]], None],
    ) -> None:
        self.rules = rules
        self._reader = reader
        self._rpc = rpc
        self._venues = venues
        self._new_id = new_id
        self._tell = tell
        self._has_rules = True

    @property
    def refills(self) -> bool:
        """Whether what comes in may refill gas: it has to be the wrapped native token."""
        return self.rules.receive.address == self.rules.wrapped

    async def offers(self, stock: Stock, now: Situation) -> list[Offer]:
        """Return what may be sold, the most valuable first; gas is not counted yet."""
        rules = self.rules
        excluded = {ZERO_ADDRESS, rules.receive.address}
        price = next(
            (b.price for b in stock.balances if b.token.address == rules.receive.address), None
        )
        held = [b for b in stock.balances if b.token.address not in excluded and b.value_usd_down]
        if not held or not price:
            return []
        calls = rule_calls(rules.contract, [b.token for b in held], rules.receive)
        answers = await self._reader.multicall(calls, now.head.hash)
        had_rules, self._has_rules = self._has_rules, not any(map(has_no_rules, answers))
        if not self._has_rules:
            if had_rules:
                self._tell("treasury.no_rules", {"reason": NO_RULES})
            return []
        venues = self._venues()
        found = []
        for balance, answer in zip(held, answers, strict=True):
            offer = best_offer(
                *(balance, rules.receive, price, read_rule(answer)),
                *(venues, rules.slippage, now.at.timestamp),
            )
            if offer is not None:
                found.append(offer)
        return sorted(found, key=lambda each: -each.part.value_usd_down)

    async def plan(self, stock: Stock, now: Situation) -> Plan | None:
        """Return the most valuable sale worth its gas, None when there is none."""
        rules = self.rules
        worth = rules.gas_multiple, now.gas_price, now.native_price
        for offer in await self.offers(stock, now):
            if not is_worth(offer.part, CONVERT_GAS, *worth, self._beside(offer, CONVERT_GAS, now)):
                return None
            gas = await self._estimate(offer, now)
            if gas and is_worth(offer.part, gas, *worth, self._beside(offer, gas, now)):
                return self._make(offer, gas, now)
        return None

    def _beside(self, offer: Offer, gas: int, now: Situation) -> Wei:
        """Return what a rollup takes beside the gas of a sale."""
        calldata = len(encode_offer(offer, self._refill(now)))
        return beside_gas_up(now.data_fee, calldata, gas, now.at.base_fee)

    def _make(self, offer: Offer, gas: int, now: Situation) -> Plan:
        rules = self.rules
        sweep = sweep_plan(
            *(self._new_id(), rules.chain, rules.contract, now.head, now.at, offer.part),
            *(gas, now.fees, now.native_price, now.deadline, self._beside(offer, gas, now)),
        )
        return as_conversion(sweep, offer, rules.receive, self._refill(now))

    def _refill(self, now: Situation) -> Wei:
        return now.refill if self.refills else Wei(0)

    async def _estimate(self, offer: Offer, now: Situation) -> int:
        """Return the gas of a sale, 0 when it would fail."""
        request = {
            "from": to_hex(now.operator),
            "to": to_hex(self.rules.contract),
            "data": to_hex(encode_offer(offer, self._refill(now))),
        }
        try:
            return int(await self._rpc.request("eth_estimateGas", [request, "latest"]), 16)
        except RpcError as error:
            fields = {"token": offer.balance.token.symbol, "reason": error.message}
            self._tell("treasury.refused", fields)
            return 0
