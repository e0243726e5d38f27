"""Whether the prices are to be believed: each feed's rounds, and how it stands to the pools."""

from grafana import limits
from grafana.panel import CHAIN, Panel, Query, above

_EACH = "chain, market, asset"
_NAMED = "{{chain}} {{market}} {{asset}}"


def _lag(q: float) -> str:
    rate = f"rate(keeper_oracle_lag_seconds_bucket{{{CHAIN}}}[$__range])"
    return f"histogram_quantile({q}, sum by (le, chain, asset) ({rate})) >= 0"


FEEDS = (
    Panel(
        "Feeds: age in heartbeats",
        "timeseries",
        "short",
        "Since a feed's last round was seen, in its heartbeats; feeds whose heartbeat is neither in "
        "chains.NAME.feeds nor learned yet are not here. Above the line: compare it with its "
        "operator's page. From breakers.stale_feed_heartbeats on nothing under it is liquidated.",
        [
            Query(
                f"max by ({_EACH}) (keeper_oracle_age_seconds{{{CHAIN}}}"
                f" / (keeper_oracle_heartbeat_seconds{{{CHAIN}}} > 0))",
                _NAMED,
            )
        ],
        steps=above(limits.FEED_BEATS),
        alert="KeeperFeedStale",
    ),
    Panel(
        "Feeds: away from the pools",
        "timeseries",
        "percentunit",
        "How far each feed is from what the deepest pools give, either way, and the band after which "
        "it speaks. Out of its band for long: the feed or the pools are wrong. The breaker deviation "
        "says when plans stop resting on it.",
        [
            Query(f"max by ({_EACH}) (abs(keeper_oracle_deviation_ratio{{{CHAIN}}})) >= 0", _NAMED),
            Query(
                f"max by (chain, asset) (keeper_oracle_band_ratio{{{CHAIN}}})",
                "{{chain}} {{asset}} band",
            ),
        ],
    ),
    Panel(
        "Feeds: behind the pools, p50 and p95",
        "timeseries",
        "s",
        "From the head at which pools left a feed's band to its next round. What falls under its "
        "threshold in between can be foreseen. Growing: the feed's operator is slow.",
        [
            Query(_lag(0.5), "{{chain}} {{asset}} p50"),
            Query(_lag(0.95), "{{chain}} {{asset}} p95"),
        ],
    ),
)
