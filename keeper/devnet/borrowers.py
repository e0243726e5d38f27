"""Open real borrowers by the hundred, each at its own address with the health asked for."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_hash.auto import keccak

from keeper.devnet.calls import salted_address
from keeper.devnet.chain import Chain, Transaction
from keeper.devnet.model import Market, Token
from keeper.devnet.prices import read_prices, replaced_sources
from keeper.devnet.reserves import EMODES, SECOND_EMODES, EModeSpec

OPEN = "open(address,(bytes32,uint8,(address,uint256)[],(address,uint256)[])[])"
GAS_PER_LEG = 110_000
GAS_PER_BORROWER = 40_000
GAS_PER_EMODE = 80_000
TX_GAS = 16_700_000
_PPM = 1_000_000
_USD = 10**8
Legs = list[tuple[bytes, int]]
Opening = tuple[bytes, int, Legs, Legs]


@dataclass(frozen=True, slots=True)
class CrowdSpec:
    """Say what the borrowers hold and owe.

    `health` and `size_usd` (collateral, whole USD) are inclusive ranges, drawn from `seed`;
    collateral and debt are split evenly over the symbols given. Two specs that differ give
    different addresses.
    """

    collateral: tuple[str, ...]
    debt: tuple[str, ...]
    health: tuple[float, float]
    size_usd: tuple[int, int]
    seed: int
    emode: EModeSpec | None = None


def crowd_spec(
    collateral: str | Sequence[str],
    debt: str | Sequence[str],
    health: float | tuple[float, float],
    size_usd: int | tuple[int, int],
    emode: int,
    kind: str,
    seed: int,
) -> CrowdSpec:
    """Return the spec of a crowd from the short forms that `Devnet.borrowers` takes."""
    match kind:
        case "plain":
            pass
        case "five":
            collateral, debt = ("WETH", "wstETH", "WBTC"), ("USDC", "DAI")
        case "emode":
            collateral, debt, emode = "wstETH", "WETH", 1
        case _:
            raise ValueError(f"kind is plain, five or emode, was {kind}")
    modes = {mode.id: mode for mode in (*EMODES, *SECOND_EMODES)}
    return CrowdSpec(
        (collateral,) if isinstance(collateral, str) else tuple(collateral),
        (debt,) if isinstance(debt, str) else tuple(debt),
        health if isinstance(health, tuple) else (health, health),
        size_usd if isinstance(size_usd, tuple) else (size_usd, size_usd),
        seed,
        modes[emode] if emode else None,
    )


def plan_crowd(market: Market, prices: Mapping[str, int], n: int, spec: CrowdSpec) -> list[Opening]:
    """Return what to open: salts and amounts, the same for the same arguments."""
    draw = random.Random(f"{market.name} {spec}")
    threshold = [_threshold(market.tokens[symbol], spec.emode) for symbol in spec.collateral]
    openings = []
    for number in range(n):
        salt = keccak(f"{spec} {number}".encode())
        size = draw.randint(*spec.size_usd) * _USD // len(spec.collateral)
        health = round(draw.uniform(*spec.health) * _PPM)
        backed = sum(size * percent // 10_000 for percent in threshold)
        share = backed * _PPM // health // len(spec.debt)
        collateral = _legs(market, prices, spec.collateral, size)
        debts = _legs(market, prices, spec.debt, share)
        openings.append((salt, spec.emode.id if spec.emode else 0, collateral, debts))
    return openings


def opening_calldata(pool: bytes, batch: Sequence[Opening]) -> bytes:
    """Return the call of `crowd.open`, packed by hand: eth_abi took as long as the node."""
    offsets, bodies, at = [], [], 32 * len(batch)
    for salt, category, collateral, debts in batch:
        owed_at = 5 * 32 + 64 * len(collateral)
        head = salt + b"".join(n.to_bytes(32, "big") for n in (category, 4 * 32, owed_at))
        body = head + _packed(collateral) + _packed(debts)
        offsets.append(at.to_bytes(32, "big"))
        bodies.append(body)
        at += len(body)
    start = pool.rjust(32, b"\0") + (64).to_bytes(32, "big") + len(batch).to_bytes(32, "big")
    return keccak(OPEN.encode())[:4] + start + b"".join(offsets) + b"".join(bodies)


def open_crowd(chain: Chain, market: Market, n: int, spec: CrowdSpec) -> list[bytes]:
    """Open `n` borrowers under the transaction gas cap and return their addresses.

    Aave lends up to the loan-to-value, so a health below threshold / LTV is only reached when
    the price falls after the loan: then the collateral stands higher while the crowd borrows.
    """
    prices = read_prices(chain, market)
    openings = plan_crowd(market, prices, n, spec)
    if lift := _needed_lift(market, spec):
        lifted = {symbol: prices[symbol] * (100 + lift) // 100 for symbol in spec.collateral}
        with replaced_sources(chain, market, lifted):
            _send(chain, market, openings)
    else:
        _send(chain, market, openings)
    template = bytes.fromhex(chain.call(market.crowd, "template()", returns=["address"])[2:])
    return [borrower_address(market, template, opening[0]) for opening in openings]


def borrower_address(market: Market, template: bytes, salt: bytes) -> bytes:
    """Return where `crowd.vy` puts the borrower of a salt: an EIP-1167 proxy by CREATE2."""
    code = bytes.fromhex("602d3d8160093d39f3363d3d373d3d3d363d73")
    return salted_address(
        market.crowd, salt, code + template + bytes.fromhex("5af43d82803e903d91602b57fd5bf3")
    )


def _send(chain: Chain, market: Market, openings: Sequence[Opening]) -> None:
    transactions = []
    for batch in _batches(openings):
        data = opening_calldata(market.pool, batch)
        transactions.append(Transaction(market.owner, market.crowd, data, gas=TX_GAS))
    # Full blocks would drive the base fee up; a crowd shall leave the fee as it was.
    base_fee = chain.base_fee()
    for start in range(0, len(transactions), 3):
        chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(base_fee))
        chain.send_all(transactions[start : start + 3])
    chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(base_fee))


def _needed_lift(market: Market, spec: CrowdSpec) -> int:
    """Return by how many percent collateral must stand higher while the crowd borrows."""
    lowest = min(
        (spec.emode.ltv if spec.emode and symbol in spec.emode.collateral else token.ltv)
        / _threshold(token, spec.emode)
        for symbol, token in ((symbol, market.tokens[symbol]) for symbol in spec.collateral)
    )
    if spec.health[0] * lowest > 1.001:
        return 0
    return int(100 * (1.01 / (spec.health[0] * lowest) - 1)) + 1


def _batches(openings: Sequence[Opening]) -> list[list[Opening]]:
    batches: list[list[Opening]] = [[]]
    gas = 0
    for opening in openings:
        legs = len(opening[2]) + len(opening[3])
        need = GAS_PER_BORROWER + GAS_PER_LEG * legs + GAS_PER_EMODE * (opening[1] != 0)
        if gas + need > TX_GAS or len(batches[-1]) == 64:
            batches.append([])
            gas = 0
        batches[-1].append(opening)
        gas += need
    return [batch for batch in batches if batch]


def _packed(legs: Legs) -> bytes:
    words = [asset.rjust(32, b"\0") + amount.to_bytes(32, "big") for asset, amount in legs]
    return len(legs).to_bytes(32, "big") + b"".join(words)


def _legs(market: Market, prices: Mapping[str, int], symbols: Sequence[str], usd: int) -> Legs:
    tokens = [market.tokens[symbol] for symbol in symbols]
    return [(t.address, usd * 10**t.decimals // prices[t.symbol]) for t in tokens]


def _threshold(token: Token, emode: EModeSpec | None) -> int:
    if emode and token.symbol in emode.collateral:
        return emode.threshold
    return token.liquidation_threshold
