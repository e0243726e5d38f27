"""`keeper new`: the first file of a plug-in, and a test that passes."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import Annotated

import typer

from keeper.cli.grouped import Grouped
from keeper.errors import ConfigError

app = typer.Typer(
    cls=Grouped, no_args_is_help=True, help="Write the first file of a plug-in, and its test."
)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@app.command()
def strategy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits and _.")],
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="Where to write the files.")
    ] = Path(),
) -> None:
    """Write a strategy and a test that passes; never over what is there."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} is no name for a strategy",
            "lower-case letters, digits and _, a letter first: keeper new strategy calm_seas",
        )
    if not folder.is_dir():
        raise ConfigError(f"no such folder: {folder}", "make it first")
    kind = "".join(part.capitalize() for part in name.split("_"))
    files = {
        folder / f"{name}.py": _STRATEGY.format(name=name, kind=kind),
        folder / f"test_{name}.py": _TEST.format(name=name, kind=kind),
    }
    for path in files:
        if path.exists():
            raise ConfigError(f"{path} exists", "choose another name, or another --folder")
    for path, text in files.items():
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from None
        path.chmod(0o644)
        print(f"wrote {path}")
    print(f'[strategies.{name}]\nuse = "./{name}.py:{kind}"')


_STRATEGY = '''"""Take what the protocol allows when it earns enough."""

from keeper import USD, Bid, Limits, Opportunity, Quote, Reason, Skip, Usd, View, Wei
from pydantic import BaseModel, ConfigDict, Field

GWEI = 10**9


class {kind}:
    """Named in the configuration as `use = "./{name}.py:{kind}"`."""

    class Config(BaseModel):
        """What may be set under `[strategies.{name}]`."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        min_profit_usd: int = Field(default=5, gt=0)
        max_fee_gwei: int = Field(default=100, gt=0)

    def __init__(self, config: Config) -> None:
        self.minimum = Usd(config.min_profit_usd * USD)
        self.max_fee = Wei(config.max_fee_gwei * GWEI)

    def select(self, view: View) -> list[Opportunity | Skip]:
        """Choose what to price."""
        found: list[Opportunity | Skip] = []
        for risk in view.at_risk:
            if risk.pairs:
                found.append(Opportunity(risk.position, risk.pairs, risk.cause))
            else:
                found.extend(risk.refusals)
        return found

    def limits(self, opportunity: Opportunity, view: View) -> Limits:
        """Say how much a liquidation has to earn."""
        return Limits(minimum_profit=self.minimum)

    def bid(self, quote: Quote, view: View) -> Bid | Skip:
        """Say what to pay for a place in the block."""
        base_fee = view.next_block.base_fee
        if base_fee > self.max_fee:
            position = quote.opportunity.position
            return Skip(
                position.market,
                position.protocol,
                position.borrower,
                Reason.GAS_CAP,
                f"base fee {{base_fee}} wei > {{self.max_fee}}",
            )
        return Bid(
            priority_fee=Wei(GWEI // 10),
            max_fee=self.max_fee,
            deadline=view.next_block.timestamp + 24,
        )
'''

_TEST = '''"""Run it with `pytest test_{name}.py`."""

import importlib.util
from pathlib import Path
from types import ModuleType

from keeper import (
    USD,
    Address,
    AtRisk,
    Bps,
    Cause,
    CollateralLeg,
    DebtLeg,
    Hash,
    Head,
    Opportunity,
    Position,
    Reason,
    Seizure,
    Skip,
    Token,
    View,
    Wad,
    Wei,
)

WETH = Token(Address(b"\\x01" * 20), "WETH", 18)
USDC = Token(Address(b"\\x02" * 20), "USDC", 6)


class Pair:
    """5,000 USDC may be repaid for WETH at a bonus of 5 %."""

    collateral = WETH
    debt = USDC
    maximum = 5_000 * 10**6
    bonus = Bps(10_500)
    scaled_debt = maximum

    def legal_down(self, repay: int) -> int:
        """Return what of it may be repaid."""
        return min(repay, self.maximum)

    def seize(self, repay: int) -> Seizure:
        """Return the WETH for it, at 2,000 USDC each."""
        return Seizure(repay, repay * 10**12 * 105 // 100 // 2_000, 0)


def load() -> ModuleType:
    """Load the strategy that stands beside this file."""
    path = Path(__file__).with_name("{name}.py")
    spec = importlib.util.spec_from_file_location("{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def look(*risks: AtRisk) -> View:
    """Return what a strategy sees of a head."""
    head = Head(1, Hash(b"\\x01" * 32), Hash(b"\\x00" * 32), 1_000, Wei(10**9), 15, 30)
    return View("ethereum", head, head.next_block(12), risks, {{}}, {{}}, WETH)


def position() -> Position:
    """Return a borrower of 10,000 USDC against 5.2 WETH."""
    collateral = CollateralLeg(WETH, 52 * 10**17, 10_400 * USD, Bps(8_250), Bps(10_500))
    debt = DebtLeg(USDC, 10_000 * 10**6, 10_000 * USD)
    borrower = Address(b"\\xbb" * 20)
    values = (10_400 * USD, 10_000 * USD)
    return Position("aave", "aave-v3", borrower, (collateral,), (debt,), *values, Wad(858 * 10**15))


def test_it_takes_what_is_allowed_and_passes_refusals_on() -> None:
    """Everything at risk is either chosen or refused with a reason."""
    strategy = load().{kind}(load().{kind}.Config(min_profit_usd=7))
    pair = Pair()
    paused = Skip("aave", "aave-v3", Address(b"\\xcc" * 20), Reason.PAUSED)
    view = look(
        AtRisk(position(), (pair,), (), Cause.PRICE),
        AtRisk(position(), (), (paused,), Cause.PRICE),
    )
    chosen, refused = strategy.select(view)
    assert isinstance(chosen, Opportunity)
    assert chosen.pairs == (pair,)
    assert refused is paused
    assert strategy.limits(chosen, view).minimum_profit == 7 * USD
'''
