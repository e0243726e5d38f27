"""Courses that lead a transaction through every state, and what must be the same after a crash in any."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from keeper.chain.words import topic
from keeper.devnet import Devnet
from keeper.devnet.operator import Operator, deploy_operator, write_settings
from keeper.devnet.scenario import underwater
from keeper.execution.life import State
from tests.chaos.street import Street, relaying
from tests.live import Live
from tests.live_child import FINAL, LOST, REOPENED, Step

LIQUIDATED = topic("LiquidationCall(address,address,address,uint256,uint256,address,bool)")
GWEI = 10**9
SPIKE = 8 * GWEI
"""Above the maximum that a plan made at 1 gwei offers."""
CHEAP = 8
"""Wei at which a block takes whatever a pool holds."""
_LONGEST = 16
_OVERRIDES = (
    "chains.devnet.fees.replace_after=1",
    "chains.devnet.fees.priority_fee_gwei=0.01",
    "chains.devnet.final_depth=3",
    "strategies.profitability.deadline_seconds=100",
)
Course = Callable[["Scene", Live], object]


@dataclass(frozen=True, slots=True)
class Play:
    """A course, in which every record is a moment to crash at, and what follows it in any case.

    `kinds` are the records it is there for; `foreign` counts transactions of somebody else with the
    same key. `lost` loses the node's first answer to a send; `relayed` is past the public pool.
    """

    course: Course
    kinds: frozenset[str]
    rest: Course = lambda scene, live: None
    lost: bool = False
    foreign: int = 0
    relayed: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to, as chain and journal tell it; money in dollars with 8 decimals."""

    liquidated: Counter[bytes]
    earned_usd: int
    problems: tuple[str, ...]


class Scene:
    """Three borrowers, an operator, and the home of a keeper that has loaded them once."""

    def __init__(self, net: Devnet, folder: Path) -> None:
        self.net = net
        self.operator: Operator = deploy_operator(net)
        self.crowd = net.borrowers(3, health=1.04, size_usd=(90_000, 90_000), seed=1)
        self.wallet = "0x" + self.operator.wallet.address.hex()
        self.ignore: Callable[[], None] = lambda: None
        self._folder = folder
        self._settings = write_settings(net, self.operator, folder)
        self._first_block = net.chain.block_number() + 1
        self._native = self._balance()
        first = Live(net, folder / "first", self._settings, _OVERRIDES)
        first.home.mkdir()
        first.start()
        first.settle()
        # One that is not finished is of no use: every start would load all from the chain again.
        first.until(lambda: bool(first.rows("SELECT 1 FROM snapshots WHERE checksum NOTNULL")))
        first.kill()
        self._loaded = first
        self._base = net.snapshot()

    def run(self, play: Play, end: Step | None = None) -> tuple[Outcome, Live, list[Step]]:
        """Play a course with a crash at one step; return what came of it and the course's steps."""
        home = Path(tempfile.mkdtemp(dir=self._folder))
        with self._played(), relaying(self.net) if play.relayed else nullcontext() as street:
            live = self._loaded.copied(home, () if street is None else self._relay(street))
            if street is not None:
                live.before_block = street.build
                self.ignore = street.ignore
            live.start(end, lost=play.lost)
            try:
                live.settle()
                play.course(self, live)
                steps = list(live.steps)
                play.rest(self, live)
                self._finish(live)
                return self._outcome(play, live), live, steps
            finally:
                live.kill()

    def count(self, tag: str = "latest") -> int:
        """Return the wallet's nonce."""
        return int(self.net.rpc("eth_getTransactionCount", self.wallet, tag), 16)

    def _relay(self, street: Street) -> list[str]:
        identity = self._folder / "identity"
        identity.write_text("0x" + "11" * 32)
        identity.chmod(0o600)
        table = "chains.devnet.relays.builder"
        return [
            f"{table}.kind=bundle",
            f"{table}.url={street.url}",
            f"{table}.identity=file:{identity}",
            f"{table}.blocks=2",
            "chains.devnet.public_after=2",
        ]

    @contextmanager
    def _played(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.net.revert(self._base)
            self._base = self.net.snapshot()

    def _finish(self, live: Live) -> None:
        """Make blocks until nothing is at risk, open, or undoable."""
        for _ in range(_LONGEST):
            live.block()
            waiting = live.rows("SELECT 1 FROM transactions WHERE settled IS NULL OR final = 0")
            if not waiting and not underwater(self.net, self.crowd):
                return

    def _outcome(self, play: Play, live: Live) -> Outcome:
        net = self.net
        price = net.price("WETH")
        native = (self._balance() - self._native) * price // 10**18
        held = sum(
            net.balance(token.address, self.operator.contract)
            * net.price(name)
            // 10**token.decimals
            for name, token in net.tokens.items()
        )
        logs = net.rpc(
            "eth_getLogs",
            {
                "address": "0x" + net.market.pool.hex(),
                "topics": ["0x" + LIQUIDATED.hex()],
                "fromBlock": hex(self._first_block),
            },
        )
        liquidated = Counter(bytes.fromhex(log["topics"][3][-40:]) for log in logs)
        return Outcome(liquidated, held + native, tuple(self._problems(play, live, held + native)))

    def _problems(self, play: Play, live: Live, earned_usd: int) -> Iterator[str]:
        if under := underwater(self.net, self.crowd):
            yield f"{len(under)} borrowers are still under water"
        if self.count() != self.count("pending"):
            yield f"nonces {self.count()} to {self.count('pending')} are pending"
        used, live.base_fee = self.count(), CHEAP
        live.blocks(2)
        if self.count() != used:
            yield f"{self.count() - used} more were mined when gas was cheap"
        if left := live.rows("SELECT hash, state FROM transactions WHERE settled IS NULL"):
            yield f"open in the journal: {left}"
        ours = "SELECT nonce, hash FROM transactions WHERE state IN ('included', 'reverted')"
        recorded = {(nonce, tx) for nonce, tx in live.rows(ours)}
        mined = set(self._mined())
        if not recorded <= mined or len(mined - recorded) != play.foreign:
            yield f"mined {sorted(mined)}, on record {sorted(recorded)}"
        if sorted(nonce for nonce, _ in mined) != list(range(self.count())):
            yield f"nonces {sorted(nonce for nonce, _ in mined)} of {self.count()}"
        told = sum(int(net) for (net,) in live.rows("SELECT net_usd FROM receipts") if net)
        if abs(told - earned_usd) * 10_000 > abs(earned_usd):
            yield f"earned {earned_usd}, on record {told}"
        yield from live.drifts()

    def _mined(self) -> Iterator[tuple[int, str]]:
        for number in range(self._first_block, self.net.chain.block_number() + 1):
            for tx in self.net.rpc("eth_getBlockByNumber", hex(number), True)["transactions"]:
                if tx["from"] == self.wallet:
                    yield int(tx["nonce"], 16), tx["hash"]

    def _balance(self) -> int:
        return int(self.net.rpc("eth_getBalance", self.wallet, "latest"), 16)


def _included(_: Scene, live: Live) -> None:
    live.price(0.93)
    live.blocks(4)


def _unanswered(_: Scene, live: Live) -> None:
    live.price(0.93)


def _replaced(_: Scene, live: Live) -> None:
    live.price(0.93)
    live.base_fee = SPIKE
    live.blocks(5)


def _cancelled(_: Scene, live: Live) -> None:
    live.price(0.93)
    live.base_fee = SPIKE
    live.price(1 / 0.93)
    live.blocks(5)


def _falls_again(_: Scene, live: Live) -> None:
    live.base_fee = GWEI
    live.price(0.93)


def _reverted(_: Scene, live: Live) -> None:
    live.price(0.93)
    live.block(seconds=3_600)


def _dropped(scene: Scene, live: Live) -> None:
    live.price(0.93)
    wish = {
        "from": scene.wallet,
        "to": scene.wallet,
        "gas": hex(21_000),
        "nonce": hex(scene.count()),
        "maxFeePerGas": hex(10 * GWEI),
        "maxPriorityFeePerGas": hex(GWEI // 20),
    }
    scene.net.rpc("eth_sendTransaction", wish)
    live.blocks(4)


def _reorganised(scene: Scene, live: Live) -> None:
    live.price(0.93)
    live.block()
    scene.net.rpc("anvil_reorg", 1, [])
    live.settle()
    live.block()


def _published(scene: Scene, live: Live) -> None:
    scene.ignore()
    live.price(0.93)
    live.blocks(4)


def _pointless(scene: Scene, live: Live) -> None:
    scene.ignore()
    live.price(0.93)
    live.price(1 / 0.93)
    live.blocks(4)


PLAYS = {
    "included": Play(
        _included, frozenset({State.BUILT, State.SIGNED, State.SEEN, State.INCLUDED, FINAL})
    ),
    "unanswered": Play(_unanswered, frozenset({State.SENT}), lost=True),
    "replaced": Play(
        _replaced, frozenset({State.SIGNED, State.SEEN, State.REPLACED, State.INCLUDED})
    ),
    "cancelled": Play(
        _cancelled, frozenset({State.SIGNED, State.SEEN, State.CANCELLED}), _falls_again
    ),
    "reverted": Play(_reverted, frozenset({State.REVERTED, State.BUILT, State.SIGNED})),
    "dropped": Play(_dropped, frozenset({State.DROPPED}), foreign=1),
    "reorganised": Play(_reorganised, frozenset({REOPENED, State.INCLUDED})),
    "published": Play(
        _published, frozenset({State.SIGNED, State.SEEN, State.REPLACED}), relayed=True
    ),
    "pointless": Play(_pointless, frozenset({LOST}), _falls_again, relayed=True),
}
"""Each begins as the first does, unless it is relayed; it crashes at its own kinds, after that beginning."""

_OPENING = {State.BUILT, State.SIGNED, State.SEEN}


def moments(name: str, steps: list[Step]) -> list[Step]:
    """Return the steps of a course to crash at."""
    play = PLAYS[name]
    is_new = name == "included" or play.relayed
    return [
        step
        for step in steps
        if step.kinds & play.kinds and (is_new or step.count > 1 or not step.kinds & _OPENING)
    ]
