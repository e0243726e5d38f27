"""Start a chain, print where it listens, and hold until interrupted."""

import argparse
import signal
import sys
from contextlib import suppress

from keeper.devnet.devnet import Devnet
from keeper.errors import ConfigError


def main() -> int:
    """Return 0 after an interrupt, 2 when the chain cannot start."""
    parser = argparse.ArgumentParser(prog="python -m keeper.devnet", description=__doc__)
    parser.add_argument("--port", type=int, default=8545, help="0 takes a free one")
    parser.add_argument("--borrowers", type=int, default=0, help="open this many at health 1.05")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--automine", action="store_true", help="a block for every transaction")
    options = parser.parse_args()
    try:
        with Devnet.start(port=options.port, seed=options.seed, quiet=False) as net:
            opened = net.borrowers(options.borrowers) if options.borrowers else []
            net.automine(options.automine)
            lines = {
                "http": net.rpc_url,
                "ws": net.ws_url,
                "chain id": net.chain_id,
                "pool": "0x" + net.market.pool.hex(),
                "borrowers": len(opened),
            }
            for name, value in lines.items():
                sys.stdout.write(f"{name:<10} {value}\n")
            sys.stdout.flush()
            with suppress(KeyboardInterrupt):
                signal.pause()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
