"""How much gas a node gives a simulation, and plans cut to that: a starved one is not at fault."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from keeper.chain.parse import blob
from keeper.errors import RpcError, TransientError
from keeper.execution.judging import Repack
from keeper.execution.refusal import skip_for, skips_for
from keeper.ports import Rpc
from keeper.types import Head, Plan, Quote, Reason, Skip, View

GAS_LEFT = "0x5a60005260206000f3"
"""Code that returns the gas it has left (GAS, MSTORE, RETURN), run as a contract's creation."""
CREATION = 53_124
"""What such a creation takes before it has looked: 53,000, its bytes, their word (EIP-3860), and GAS."""
LOOK_HEADS = 600
"""Heads after which a node is asked again."""
_CUTS = 4
"""Times a plan is made smaller until it fits."""
_REFUSED = re.compile(
    r"gas too high|gas limit (is )?too (high|large)|gas (limit|cap) (exceeded|exhausted|reached)"
    r"|(exceeds?|above) (the )?(configured |rpc |block |node )*(allowance|gas (cap|limit))",
    re.IGNORECASE,
)
"""What nodes say of a call with more gas than they give: reth "intrinsic gas too high", Nethermind
"Block gas limit exceeded", geth's simulation "RPC gas cap exhausted". Of one call, geth and Erigon
say nothing: they give it less (`rpc.gascap`), and so does Nethermind below its `JsonRpc.GasCap`."""


def is_too_much(error: TransientError) -> bool:
    """Tell whether a node refused a simulation for the gas it was to have."""
    return isinstance(error, RpcError) and _REFUSED.search(error.message) is not None


class Allowance:
    """The most gas a node gives, asked for when a simulation failed, and how plans are cut to it.

    Plans simulated `together`, in one request, have it together, others each. `note` is told once of
    a node that gives less than plans may take.
    """

    def __init__(
        self, rpc: Rpc, repack: Repack, note: Callable[[str], None] = lambda _: None
    ) -> None:
        self._rpc = rpc
        self._repack = repack
        self._note = note
        self._most: int | None = None
        self._asked: int | None = None
        self._noted = False

    def cut(
        self, plans: Sequence[Plan], view: View, *, together: bool
    ) -> tuple[list[Plan], list[Skip]]:
        """Return the plans that the node has gas for, the first made smaller, and who waits.

        As they are where nothing is known against it.
        """
        if self._asked is not None and view.head.number - self._asked >= LOOK_HEADS:
            self._asked = self._most = None
        waiting, late = list(plans), list[Skip]()
        while (place := self._starved(waiting, together=together)) is not None:
            if not self._noted:
                self._noted = True
                self._note(self._why())
            if place:
                return waiting[:place], [*late, *self._later(waiting[place:])]
            plan, *others = waiting
            part = self._smaller(plan, view)
            if part is not None:
                cut_off = (skip_for(q, Reason.TIMEOUT, self._why()) for q in _missing(plan, part))
                return [part], [*late, *part.skips, *cut_off, *self._later(others)]
            # not even one of its positions fits: at every head, so nobody is to wait for it
            late += self._later([plan])
            waiting = others
        return waiting, late

    async def explains(self, plans: Sequence[Plan], head: Head, *, together: bool) -> bool:
        """Tell whether the node gives less gas than plans may take: asked once in some heads.

        Without gas named it gives all it would; who does not answer keeps nobody from being simulated.
        What was enough for these is kept: it may not be for those of a later head.
        """
        if self._asked is None:
            try:
                answer = await self._rpc.request("eth_call", [{"input": GAS_LEFT}, "latest"])
                given = int.from_bytes(blob(answer), "big")
            except (TransientError, ValueError, TypeError):
                return False
            self._asked = head.number
            self._most = given + CREATION if given else None
        return self._starved(plans, together=together) is not None

    def _starved(self, plans: Sequence[Plan], *, together: bool) -> int | None:
        """Return the place of the first plan the node has too little gas for, None when of no one."""
        left = self._most
        if left is None:
            return None
        for place, plan in enumerate(plans):
            if plan.gas_limit > left:
                return place
            if together:
                left -= plan.gas
        return None

    def _smaller(self, plan: Plan, view: View) -> Plan | None:
        """Return a plan with as many positions as the node has gas for, None when not even one fits."""
        assert self._most is not None
        everyone = list(dict.fromkeys(quote.opportunity.key for quote in plan.quotes))
        limit, many = plan.gas_limit, len(everyone)
        for _ in range(_CUTS):
            many = min(many - 1, many * self._most // limit)
            if many < 1:
                return None
            part = self._repack(plan, dict.fromkeys(everyone[many:], self._why()), view)
            if part is None:
                return None
            if part.gas_limit <= self._most:
                return replace(part, prices=plan.prices, sender=plan.sender)
            limit = part.gas_limit
        return None

    def _later(self, plans: Sequence[Plan]) -> list[Skip]:
        return skips_for(plans, Reason.TIMEOUT, self._why())

    def _why(self) -> str:
        return f"the node gives a simulation {self._most} gas at most (geth: --rpc.gascap)"


def _missing(plan: Plan, part: Plan) -> list[Quote]:
    """Return the quotes a smaller plan does without and has not told of."""
    known = {quote.key for quote in part.quotes}
    told = {(skip.market, skip.borrower) for skip in part.skips}
    return [
        quote
        for quote in plan.quotes
        if quote.key not in known and quote.opportunity.key not in told
    ]
