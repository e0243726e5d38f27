"""Start a chain, print where it listens, and hold until interrupted."""

import argparse
import signal
import sys
from contextlib import suppress

from eth_utils.address import to_checksum_address

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
        with (
            suppress(KeyboardInterrupt),  # it may come at any moment, not only in the pause
            Devnet.start(port=options.port, seed=options.seed, quiet=False) as net,
        ):
            opened = net.borrowers(options.borrowers) if options.borrowers else []
            net.automine(options.automine)
            lines = {
                "http": net.rpc_url,
                "ws": net.ws_url,
                "chain id": net.chain_id,
                "pool": to_checksum_address(net.market.pool),
                "factory": to_checksum_address(net.uniswap.factory),
                "wrapped native": to_checksum_address(net.tokens["WETH"].address),
                "test account": to_checksum_address(net.users[0].address),
                "its known key": "0x" + net.users[0].key.hex(),
                "borrowers": len(opened),
            }
            for name, value in lines.items():
                sys.stdout.write(f"{name:<15} {value}\n")
            sys.stdout.flush()
            signal.pause()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
