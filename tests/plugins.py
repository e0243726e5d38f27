"""Strategies that do harm, as an operator might install them: one file each, of one template."""

from pathlib import Path

GOOD = """
from pydantic import BaseModel

from keeper import Bid, Limits, Opportunity, Usd, Wei


class Mine:
    class Config(BaseModel, extra="forbid"):
        minimum: int = 1

    def __init__(self, config):
        self.config = config

    def select(self, view):
        for risk in view.at_risk:
            yield Opportunity(risk.position, risk.pairs, risk.cause)

    def limits(self, opportunity, view):
        return Limits(Usd(self.config.minimum))

    def bid(self, quote, view):
        return Bid(Wei(10**8), Wei(300 * 10**9), view.next_block.timestamp + 24)
"""
SELECT = (
    "        for risk in view.at_risk:\n"
    "            yield Opportunity(risk.position, risk.pairs, risk.cause)\n"
)
LIMITS = "        return Limits(Usd(self.config.minimum))\n"
BID = "        return Bid("


def harmful(where: str, code: str) -> str:
    """Return the strategy with this at the start of limits or bid, or for all of select."""
    at = {"select": SELECT, "limits": LIMITS, "bid": BID}[where]
    rest = "" if where == "select" else at
    return GOOD.replace(at, "".join(f"        {line}\n" for line in code.splitlines()) + rest)


def write(folder: Path, text: str, name: str = "mine") -> Path:
    """Write a strategy beside a configuration."""
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return path


LIES = {
    "a position of its own": """from dataclasses import replace
risk = view.at_risk[0]
position = replace(risk.position, borrower=b'\\x01' * 20)
return [Opportunity(position, risk.pairs, risk.cause)]""",
    "a pair of its own": """class Rich:
    def __init__(self, of): self.of = of
    def __getattr__(self, name): return getattr(self.of, name)
    def seize(self, repay): return type(self.of.seize(repay))(1, 10**30, 0)
risk = view.at_risk[0]
return [Opportunity(risk.position, (Rich(risk.pairs[0]),), risk.cause)]""",
    "the same pair twice": """risk = view.at_risk[0]
return [Opportunity(risk.position, risk.pairs[:1], risk.cause),
    Opportunity(risk.position, risk.pairs, risk.cause)]""",
    "nonsense": "return [object()]",
    "none": "return None",
    "a number": "return 7",
}
LIMIT_LIES = {
    "a negative minimum": "return Limits(-10**30)",
    "a minimum that is no number": "return Limits('1')",
    "a fraction": "return Limits(0.5)",
    "no number at all": "return Limits(float('nan'))",
    "no limits": "return None",
    "a huge repay": "return Limits(1, largest_repay=10**60)",
}
BID_LIES = {
    "a negative tip": "return Bid(1, 10**12, 10**12, -10**24)",
    "a negative fee": "return Bid(-1, 10**12, 10**12)",
    "a fee beyond everything": "return Bid(1, 10**60, 10**12)",
    "a deadline no call can hold": "return Bid(1, 10**12, 2**64)",
    "text": "return Bid('1', 10**12, 10**12)",
    "infinity": "return Bid(1, float('inf'), 10**12)",
    "nothing": "return None",
}
