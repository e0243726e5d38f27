"""eMode categories as the pool answers them, by era: loaded at one block, read again to compare."""

from collections.abc import Mapping

from keeper.chain.words import address, answers, read, uint
from keeper.ports import Reader
from keeper.protocols.aave_v3.eras import Era
from keeper.protocols.aave_v3.events import own_price
from keeper.protocols.aave_v3.ledger import Category, Ledger
from keeper.types import Call, Head
from keeper.units import ZERO_ADDRESS, Address, Bps

CATEGORIES = range(1, 256)
"""eMode ids are uint8 and 0 is no category."""
TERMS = ("ltv", "threshold", "bonus")
"""Fields of a category in the order of the pool's answer."""


def terms_call(era: Era, pool: Address, number: int) -> Call:
    """Return the read of a category's terms."""
    name = "getEModeCategoryCollateralConfig" if era.has_bitmaps else "getEModeCategoryData"
    return read(pool, f"{name}(uint8)", number)


def terms_start(era: Era) -> int:
    """Return the word of the answer that the terms begin with.

    Pool.getEModeCategoryData answers with a struct that ends in a string, so it begins one word on.
    """
    return 0 if era.has_bitmaps else 1


def bitmap_calls(era: Era, pool: Address, number: int) -> Mapping[str, Call]:
    """Return the reads of a category's bitmaps by field, none where reserves name their category."""
    names = {"collateral": "Collateral", "borrowable": "Borrowable"} if era.has_bitmaps else {}
    if era.has_ltv_zero:
        names["ltv_zero"] = "Ltvzero"
    return {
        field: read(pool, f"getEModeCategory{name}Bitmap(uint8)", number)
        for field, name in names.items()
    }


async def load_categories(reader: Reader, pool: Address, head: Head, ledger: Ledger) -> None:
    """Fill a ledger that knows its reserves with the categories as of this head."""
    era, words = ledger.era, 3 if ledger.era.has_bitmaps else 5
    results = await reader.multicall(
        [terms_call(era, pool, number) for number in CATEGORIES], head.hash
    )
    told = dict(zip(CATEGORIES, answers(results, "eMode terms", words), strict=True))
    if not era.has_bitmaps:
        _early_categories(ledger, told)
        return
    terms = {number: data for number, data in told.items() if any(data)}
    asked = {number: bitmap_calls(era, pool, number) for number in terms}
    calls = [call for each in asked.values() for call in each.values()]
    maps = iter(answers(await reader.multicall(calls, head.hash), "eMode bitmaps"))
    for number, data in terms.items():
        ltv, threshold, bonus = (Bps(uint(data, word)) for word in range(3))
        bitmaps = {field: uint(next(maps)) for field in asked[number]}
        ledger.categories[number] = Category(ltv, threshold, bonus, **bitmaps)


def _early_categories(ledger: Ledger, told: Mapping[int, bytes]) -> None:
    """Take categories as up to v3.1: their members are in the reserves' own configurations."""
    members: dict[int, int] = {}
    for reserve in ledger.reserves.values():
        members[reserve.category] = members.get(reserve.category, 0) | 1 << reserve.id
    for number, data in told.items():
        ltv, threshold, bonus = (Bps(uint(data, word)) for word in (1, 2, 3))
        if not threshold:
            continue
        bitmap = members.get(number, 0)
        ledger.categories[number] = Category(ltv, threshold, bonus, bitmap, bitmap)
        if address(data, 4) != ZERO_ADDRESS:
            ledger.stop(own_price(number))
