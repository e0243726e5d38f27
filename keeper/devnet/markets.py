"""Add a market to a running chain."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from keeper.devnet.accounts import Cast
from keeper.devnet.artifacts import load_own
from keeper.devnet.chain import Chain
from keeper.devnet.deploy_aave import AaveDeployer
from keeper.devnet.deploy_tokens import Listing, deploy_listings, fund_traders
from keeper.devnet.deploy_uniswap import create_pools
from keeper.devnet.model import Market, Token, Uniswap
from keeper.devnet.reserves import EModeSpec, PoolSpec, ReserveSpec
from keeper.devnet.solidity import Artifact


def add_market(
    chain: Chain,
    contracts: Mapping[str, Artifact],
    tokens: Mapping[str, Token],
    uniswap: Uniswap,
    name: str,
    reserves: Sequence[ReserveSpec],
    emodes: Sequence[EModeSpec],
    pools: Sequence[PoolSpec],
    flash_premium: int,
) -> tuple[Market, Uniswap]:
    """Return a new market and Uniswap with its pools; symbols in `tokens` keep token and source."""
    own, weth = load_own(), tokens["WETH"].address
    known = {
        spec.symbol: Listing(spec, token.address, token.feed, token.base)
        for spec in reserves
        if (token := tokens.get(spec.symbol))
    }
    listings = deploy_listings(chain, Cast.DEPLOYER, own, weth, reserves, known)
    builder = AaveDeployer(chain, contracts, own, weth)
    market = builder.deploy(name, Cast.DEPLOYER, listings, emodes, flash_premium)
    builder.fill(market, Cast.LENDER, Cast.ANCHOR, reserves)
    added = create_pools(chain, uniswap, market, Cast.LENDER, weth, pools)
    grown = replace(uniswap, pools=(*uniswap.pools, *added))
    fund_traders(chain, market, grown)
    return market, grown
