"""Every lending protocol on one chain, thousands of borrowers, one crash, one keeper: the demo's story."""

from keeper.cli.demo.play import play
from keeper.devnet.lending import LENDING

BORROWERS = 5_000


def figures() -> dict[str, float]:
    """Play the story, print it, and return what it came to, by protocol too."""
    summary = play(
        borrowers=BORROWERS,
        seed=1,
        protocols=tuple(LENDING),
        lanes=1,
        hold=False,
        svg=None,
        quiet=False,
    )
    found: dict[str, float] = {
        "protocols_borrowers": summary.borrowers,
        "protocols_liquidatable": summary.liquidatable,
        "protocols_liquidated": summary.liquidated,
        "protocols_skipped": summary.skipped,
        "protocols_missed": summary.missed,
        "protocols_rejected": summary.rejected_sends,
        "protocols_reverted": summary.reverted,
        "protocols_transactions": summary.transactions,
        "protocols_mixed_transactions": summary.mixed_transactions,
        "protocols_net_profit_usd": summary.net_profit_usd,
        "protocols_profit_not_held": 1 - summary.profit_is_held,
        "protocols_estimate_error_bps": summary.estimate_error_bps,
        "protocols_gas_per_liquidation": summary.gas_per_liquidation,
        "protocols_head_to_send_ms_p95": summary.head_to_send_ms_p95,
        "protocols_seconds": summary.seconds,
    }
    for part in summary.protocols:
        name = f"protocols_{part.protocol.replace('-', '_')}"
        found[f"{name}_liquidated"] = part.liquidated
        found[f"{name}_missed"] = part.missed
        found[f"{name}_net_profit_usd"] = part.net_profit_usd
    return found


if __name__ == "__main__":
    figures()
