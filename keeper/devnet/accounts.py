"""Derive the accounts of anvil's test mnemonic and say who plays what."""

from functools import cache

from keeper.devnet.model import Account

_MNEMONIC = "test test test test test test test test test test test junk"


class Cast:
    """Addresses with a part on the local chain; accounts from the fifth on are free."""

    DEPLOYER = bytes.fromhex("f39fd6e51aad88f6f4ce6ab8827279cfffb92266")
    LENDER = bytes.fromhex("70997970c51812dc3a010c7d01b50e0d17dc79c8")
    ANCHOR = bytes.fromhex("3c44cdddb6a900fa2b585dd299e03d12fa4293bc")
    TRADER = bytes.fromhex("90f79bf6eb2c4f870365e785982e1f101e93b906")
    RIVAL = bytes.fromhex("15d34aaf54267db7d7c367839aaf71a00a2c6a65")


@cache
def test_account(index: int) -> Account:
    """Return account `index` of the mnemonic; its key is public knowledge."""
    from eth_account import Account as Wallet  # noqa: PLC0415 - takes seconds: on first use

    Wallet.enable_unaudited_hdwallet_features()
    wallet = Wallet.from_mnemonic(_MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
    return Account(bytes.fromhex(wallet.address[2:]), bytes(wallet.key))
