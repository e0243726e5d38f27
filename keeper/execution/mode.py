"""Whether transactions are sent: the file and the flag must both say so."""

from typing import Literal

Mode = Literal["live", "dry"]


def live_or_dry(config_mode: Mode, *, flag: bool) -> tuple[bool, str]:
    """Return whether to go live, and what is missing for it in words (empty when live)."""
    missing = []
    if config_mode != "live":
        missing.append('mode = "live" in the configuration file')
    if not flag:
        missing.append("--live on the command line")
    return not missing, " and ".join(missing)
