"""What happens in one scenario, decided by its seed alone."""

import random
from dataclasses import dataclass, field

from tests.chaos.proxy import NOTICES, SHOTS, FaultProxy

SHAPES = (("ws",), ("http",), ("ws", "ws"), ("ws", "http"), ("http", "http"))
KILLED_SHARE = 0.12
LONG_SHARE = 0.2
LONG = 66
"""Blocks made before the deepest reorgs, which replace up to 64."""
DEEPEST = 64

LASTING = (
    *("drop", "close", "half_open", "gone", "silent", "deaf", "lag", "slow"),
    *("fork", "restart", "cap", "limit", "other_chain", "error"),
)
"""What befalls an endpoint until it heals; single answers and notifications come beside it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one endpoint; `size` is blocks, answers or milliseconds, as the kind has it."""

    kind: str
    endpoint: int
    size: int

    def __str__(self) -> str:
        return f"{self.kind}({self.size})@{self.endpoint}"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing the chain does; `seed` draws its transactions, `wait` is the most time after it."""

    kind: str
    size: int
    seed: int
    wait: float

    def __str__(self) -> str:
        return f"{self.kind}({self.size})"


@dataclass(frozen=True, slots=True)
class Round:
    """Faults and steps in turn; then every endpoint heals."""

    steps: tuple[Fault | Step, ...]

    def __str__(self) -> str:
        return " ".join(str(step) for step in self.steps)


@dataclass(frozen=True, slots=True)
class Plan:
    """One scenario: how the chain is reached, whether the keeper is killed, and what happens."""

    seed: int
    shape: tuple[str, ...]
    killed: bool
    rounds: tuple[Round, ...] = field(repr=False)

    def __str__(self) -> str:
        how = "+".join(self.shape) + (" killed" if self.killed else "")
        return "\n".join([f"seed {self.seed}: {how}", *(f"  {each}" for each in self.rounds)])


def make_plan(seed: int) -> Plan:
    """Return the plan of a seed."""
    rng = random.Random(seed)
    shape = rng.choice(SHAPES)
    killed = rng.random() < KILLED_SHARE
    if killed:
        return Plan(seed, shape[:1], killed, tuple(_quiet(rng) for _ in range(rng.randint(1, 2))))
    long = rng.random() < LONG_SHARE
    rounds = [_round(rng, len(shape), long=False) for _ in range(rng.randint(2, 4))]
    if long:
        rounds.insert(rng.randrange(len(rounds) + 1), _round(rng, len(shape), long=True))
    return Plan(seed, shape, killed, tuple(rounds))


async def strike(proxies: list[FaultProxy], fault: Fault, lowest: int) -> None:
    """Let a fault befall its endpoint; a branch leaves the chain above block `lowest`."""
    proxy = proxies[fault.endpoint]
    match fault.kind:
        case "drop":
            proxy.drop()
        case "close":
            await proxy.close_cleanly()
        case "half_open":
            proxy.half_open()
        case "gone":
            proxy.refusing = True
            proxy.drop()
        case "silent":
            proxy.silent = True
        case "deaf":
            proxy.deaf = True
        case "lag":
            proxy.lag = fault.size
        case "slow":
            proxy.injected["slow"] += 1
            proxy.delay = fault.size / 1000
        case "fork":
            await proxy.fork(fault.size, lowest)
        case "restart":
            await proxy.restart()
        case "cap":
            proxy.range_cap = fault.size
        case "limit":
            proxy.limiting, proxy.retry_after = True, 0
        case "other_chain":
            proxy.chain_id = 1
        case "error":
            words = ("unknown block", "header not found", "internal error", "too many requests")
            proxy.errors["eth_getLogs"] = _errors(words, fault.size)
            proxy.errors["eth_getBlockByNumber"] = _errors(words[::-1], fault.size)
        case kind:
            proxy.retry_after = 0
            proxy.shots[kind] += fault.size


def _errors(words: tuple[str, ...], count: int) -> list[dict[str, object]]:
    return [{"code": -32000, "message": words[n % len(words)]} for n in range(count)]


def _round(rng: random.Random, endpoints: int, *, long: bool) -> Round:
    steps: list[Fault | Step] = []
    if long:
        steps.append(_step(rng, "blocks", LONG))
    hit = list(range(endpoints)) if rng.random() < 0.4 else [rng.randrange(endpoints)]
    for _ in range(rng.randint(1, 3)):
        kind = rng.choice(LASTING) if rng.random() < 0.5 else rng.choice((*SHOTS, *NOTICES))
        steps += [Fault(kind, endpoint, _size(rng, kind)) for endpoint in hit]
        steps += [_chain_step(rng) for _ in range(rng.randint(0, 2))]
    steps.append(_step(rng, "reorg", rng.randint(20, DEEPEST)) if long else _chain_step(rng))
    return Round(tuple(steps))


def _quiet(rng: random.Random) -> Round:
    """Return a round in which nothing but the keeper itself fails."""
    steps = [_chain_step(rng) for _ in range(rng.randint(1, 4))]
    return Round(tuple(steps))


def _chain_step(rng: random.Random) -> Step:
    kinds = {"blocks": 12, "reorg": 7, "emptied": 1, "list_pool": 1, "rotate_feed": 1}
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    if kind == "blocks":
        return _step(rng, kind, rng.randint(1, 4))
    return _step(rng, kind, min(1 + int(rng.expovariate(0.3)), DEEPEST))


def _step(rng: random.Random, kind: str, size: int) -> Step:
    return Step(kind, size, rng.getrandbits(32), rng.choice([0.0, 0.02, 0.1]))


def _size(rng: random.Random, kind: str) -> int:
    match kind:
        case "lag" | "fork":
            return min(1 + int(rng.expovariate(0.25)), 40)
        case "slow":
            return rng.randint(5, 60)
        case "cap":
            return rng.randint(1, 20)
        case "swallow" | "error":
            return rng.randint(1, 2)
        case _:
            return rng.randint(1, 4)
