"""What tokens are called, as their contracts say."""

from collections.abc import Iterable

from keeper.chain.words import WORD, answered, read, text, uint
from keeper.ports import Reader
from keeper.types import Head, Token
from keeper.units import Address


async def name_tokens(
    reader: Reader, tokens: Iterable[Address], head: Head
) -> dict[Address, Token]:
    """Return tokens with symbol and decimals; one that does not tell its decimals is left out."""
    wanted = list(dict.fromkeys(tokens))
    calls = [read(token, each) for token in wanted for each in ("symbol()", "decimals()")]
    results = await reader.multicall(calls, head.hash)
    found: dict[Address, Token] = {}
    for token, symbol, decimals in zip(wanted, results[::2], results[1::2], strict=True):
        if decimals.ok and len(decimals.data) == WORD and uint(decimals.data) <= 77:
            shown = text(symbol.data) if answered(symbol) else ""
            found[token] = Token(token, shown or f"0x{token[:4].hex()}", uint(decimals.data))
    return found
