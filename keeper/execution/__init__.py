"""From a plan to its receipt: simulate, sign, send once, follow."""
