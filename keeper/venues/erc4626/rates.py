"""What shares of a vault bring, by the ways vaults round, and how a savings rate grows."""

from dataclasses import dataclass, replace

RAY = 10**27


@dataclass(frozen=True, slots=True)
class Held:
    """A vault whose assets are what it holds of them: no time moves its rate.

    `extra` is what a vault counts more of its shares, with one asset more: 10^offset where
    OpenZeppelin's ERC4626.sol is new enough to do so, 0 in its first ones and in solmate's.
    """

    assets: int
    supply: int
    extra: int


@dataclass(frozen=True, slots=True)
class Savings:
    """A vault with a savings rate, its `chi` grown to the block to come (SavingsDai.sol, SUsds.sol)."""

    chi: int


State = Held | Savings


def redeem_down(state: State, shares: int) -> int:
    """Return what redeeming shares brings (`previewRedeem`); 0 when the vault cannot pay it."""
    match state:
        case Savings(chi):
            return max(shares, 0) * chi // RAY
        case Held(assets, supply, extra):
            if not 0 < shares <= supply:
                return 0
            out = shares * (assets + (extra > 0)) // (supply + extra)
            return out if out <= assets else 0


def after(state: State, shares: int, out: int) -> State:
    """Return what a redemption leaves."""
    if isinstance(state, Savings):
        return state
    return replace(state, assets=state.assets - out, supply=state.supply - shares)


def grown_down(chi: int, rate: int, seconds: int) -> int:
    """Return `chi` after so many seconds at a rate per second, each 1e27 (Pot.sol: drip)."""
    return power_ray(rate, seconds) * chi // RAY if seconds > 0 else chi


def power_ray(base: int, exponent: int) -> int:
    """Return base^exponent, 1e27 being one, each product rounded half up (Pot.sol: rpow)."""
    result = base if exponent % 2 else RAY
    while exponent := exponent // 2:
        base = (base * base + RAY // 2) // RAY
        if exponent % 2:
            result = (result * base + RAY // 2) // RAY
    return result
