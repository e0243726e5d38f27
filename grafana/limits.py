"""Where an operator is to act: each figure once, for the alert's rule and for the panel's colour."""

SET = 1
"""A gauge that is 0 or 1, and is never to stay at 1."""
ONCE = 0.5
"""An event counted in a range: `increase` extrapolates, so that one of them is about 1."""
HEAD_GRACE_SECONDS = 15
HEAD_GRACE_BLOCKS = 3
HEAD_LATE = 1.0
"""Of the age allowed: `HEAD_GRACE_BLOCKS` block times and `HEAD_GRACE_SECONDS`."""
GAS_TRANSACTIONS = 20
"""Transactions a wallet can still pay for."""
REVERTED_SHARE = 0.5
REVERTED_LEAST = 4
"""Transactions in an hour from which on a share says something."""
RPC_ERROR_SHARE = 0.1
LOOP_LAG_SECONDS = 0.25
SNAPSHOT_AGE_SECONDS = 3600
FEED_BEATS = 1.5
"""Heartbeats of a feed without a round."""
USED = 1
"""An endpoint's gauge is 1 while it is asked."""
UP = 1
"""Prometheus' own gauge of a target that answers."""
