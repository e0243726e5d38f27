"""Pre-liquidations: contracts that borrowers let close a part of their debt before Morpho would.

Source: PreLiquidation.sol of pre-liquidation. Between its threshold and Morpho's, incentive and close
factor grow in a line with the loan to value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from eth_utils.address import to_checksum_address

from keeper.chain.words import WORD, address, answered, read, topic, uint
from keeper.errors import ConfigError, IncompleteError
from keeper.ports import Reader
from keeper.protocols.morpho_blue import fixed
from keeper.types import Head, Log, Watch
from keeper.units import Address, Hash

AUTHORIZE = topic("SetAuthorization(address,address,address,bool)")
TAKEN = topic("PreLiquidate(bytes32,address,address,uint256,uint256,uint256)")
FIRST = 1 << 31
"""Numbers of accounts' places from here on are pre-liquidation contracts, below it markets."""


@dataclass(frozen=True, slots=True)
class EarlyTerms:
    """What a contract was deployed with, for good (IPreLiquidation.PreLiquidationParams), in wad."""

    contract: Address
    id: Hash
    lltv: int
    close_low: int
    close_high: int
    incentive_low: int
    incentive_high: int
    oracle: Address

    def factors_down(self, held: int, price: int, owed: int, lltv: int) -> tuple[int, int]:
        """Return incentive and close factor at a loan to value; `lltv` is the market's own."""
        loan_to_value = fixed.wad_div_up(owed, fixed.quoted_down(held, price))
        part = fixed.wad_div_down(loan_to_value - self.lltv, lltv - self.lltv)
        incentive = fixed.wad_mul_down(part, self.incentive_high - self.incentive_low)
        close = fixed.wad_mul_down(part, self.close_high - self.close_low)
        return self.incentive_low + incentive, self.close_low + close

    def is_open(self, held: int, price: int, owed: int, lltv: int) -> bool:
        """Tell whether a position is past the threshold and not yet past the market's own."""
        quoted = fixed.quoted_down(held, price)
        return fixed.wad_mul_down(quoted, self.lltv) < owed <= fixed.wad_mul_down(quoted, lltv)


@dataclass(slots=True)
class Early:
    """A contract that is followed, and who authorised it."""

    number: int
    terms: EarlyTerms
    authorisers: set[Address] = field(default_factory=set)

    @property
    def place(self) -> str:
        """Return what the name of its market ends with."""
        return f"pre-{self.terms.contract[:4].hex()}"


async def find(
    reader: Reader, morpho: Address, contracts: Sequence[Address], head: Head
) -> tuple[EarlyTerms, ...]:
    """Return the terms of contracts; raise `ConfigError` for one that is no pre-liquidation of Morpho's."""
    found = []
    names = ("MORPHO()", "ID()", "preLiquidationParams()")
    for contract in contracts:
        calls = [read(contract, name) for name in names]
        of, id_, params = await reader.multicall(calls, head.hash)
        shown = to_checksum_address(contract)
        if not (answered(of) and answered(id_) and answered(params, 6)):
            raise ConfigError(f"{shown} is no pre-liquidation contract", "check the address")
        if address(of.data) != morpho:
            raise ConfigError(
                f"pre-liquidation {shown} is of another Morpho", "leave it out, or add that one"
            )
        lltv, close_low, close_high, low, high = (uint(params.data, at) for at in range(5))
        found.append(
            EarlyTerms(
                contract=contract,
                id=Hash(id_.data[:WORD]),
                lltv=lltv,
                close_low=close_low,
                close_high=close_high,
                incentive_low=low,
                incentive_high=high,
                oracle=address(params.data, 5),
            )
        )
    return tuple(found)


async def load_authorisers(
    reader: Reader,
    market: str,
    morpho: Address,
    early: Sequence[Early],
    head: Head,
    first_block: int,
) -> None:
    """Fill in who authorised each contract as of exactly this head: found in logs, read from state."""
    if not early:
        return
    by_contract = {each.terms.contract: each for each in early}
    watch = Watch(frozenset({morpho}), frozenset({AUTHORIZE}))
    stage = f"authorisations of {market}"
    found = await reader.collect(stage, watch, first_block, head.number, _authorisation)
    pairs = [
        (Address(key[:20]), each)
        for key in sorted(found)
        if (each := by_contract.get(Address(key[20:]))) is not None
    ]
    calls = [
        read(morpho, "isAuthorized(address,address)", who, each.terms.contract)
        for who, each in pairs
    ]
    results = await reader.multicall(calls, head.hash)
    for (who, each), result in zip(pairs, results, strict=True):
        if not answered(result):
            raise IncompleteError(f"an authorisation of {market} was not read")
        if uint(result.data):
            each.authorisers.add(who)


def _authorisation(log: Log) -> bytes:
    """Return who authorised whom."""
    if len(log.topics) != 4:
        return bytes(40)
    return log.topics[2][12:] + log.topics[3][12:]
