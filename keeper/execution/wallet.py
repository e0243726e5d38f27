"""One sending account: its signer, nonces, native coin, and the node it hands bytes to."""

import asyncio
from collections.abc import Sequence

from keeper.chain.parse import quantity
from keeper.errors import ConfigError, RpcError, TransientError
from keeper.execution.answer import Answer, classify
from keeper.execution.bump import rescue_up
from keeper.execution.flight import Flights
from keeper.execution.nonce import NonceLine
from keeper.execution.patience import Patience
from keeper.ports import Rpc, Signer
from keeper.types import Plan, Signed
from keeper.units import Address, Wei, to_hex

CANCEL_GAS = 150_000
"""Most gas a transaction without calls may use: 21,000, and on a rollup its parent chain's part."""

SILENT_SECONDS = 60
"""Seconds of block time for which a wallet is passed over whose signer failed, then it is asked again."""


def needed_up(plans: Sequence[Plan]) -> Wei:
    """Return what has to be free for plans of one lane: their gas at its worst, and a rescue.

    What one replacement and one cancel would cost is held back on top: what cannot be replaced may
    stick.
    """
    rescue = max(rescue_up(plan, CANCEL_GAS) for plan in plans)
    return Wei(sum(plan.worst_cost for plan in plans) + rescue)


class Wallet:
    """Sign plans on one nonce line and hand the bytes to a node, each hand-over exactly once.

    The balance is what the chain last told, less the gas paid since, so a send needs no read.
    """

    def __init__(self, rpc: Rpc, signer: Signer, chain_id: int) -> None:
        self._rpc = rpc
        self._signer = signer
        self._chain_id = chain_id
        self._balance = 0
        self._behind = Patience()
        self._barred = Patience()
        self._barrier: int | None = None
        self._silent_at: int | None = None
        self.nonces = NonceLine()

    @property
    def address(self) -> Address:
        """Return the account that sends."""
        return self._signer.address

    @property
    def balance(self) -> Wei:
        """Return the native coin held, as far as is known."""
        return Wei(self._balance)

    def is_silent(self, timestamp: int) -> bool:
        """Whether its signer failed lately, and has signed nothing since."""
        return self._silent_at is not None and timestamp - self._silent_at < SILENT_SECONDS

    def is_barred(self, timestamp: int) -> bool:
        """Whether a stranger's transaction that is not mined has held up the line for some heads."""
        return self.nonces.is_barred and self._barred.is_over(timestamp)

    async def refuse_code(self) -> None:
        """Raise `ConfigError` when the account has code: pools hold delegated ones to few at a time."""
        code = await self._rpc.request("eth_getCode", [to_hex(self.address), "latest"])
        if code not in {"", "0x"}:
            raise ConfigError(
                f"the wallet {to_hex(self.address)} has code (it is delegated, EIP-7702)",
                "revoke the delegation, or send with another account",
            )

    async def synchronise(self, flights: Flights) -> None:
        """Read nonces and balance from the chain."""
        mined, pooled, balance = await asyncio.gather(
            self._count("latest"), self._count("pending"), self._read_balance()
        )
        self._line_up(mined, pooled, flights)
        self._balance = balance

    async def confirm(self, flights: Flights, timestamp: int) -> int:
        """Read how many transactions are mined by a head's time; strangers in the pool are recounted.

        A count that stays below what was seen is a reorg that undid a transaction: unless the line
        goes back, everything after the gap waits for ever.
        """
        mined = await self._count("latest")
        if mined < self.nonces.confirmed:
            self._behind.wait(timestamp)
        else:
            self._behind.reset()
        rewound = self._behind.is_over(timestamp)
        if rewound:
            self._behind.reset()
            self.nonces.rewind(mined)
        self.nonces.confirm(mined)
        if rewound or self.nonces.foreign:
            self._line_up(mined, await self._count("pending"), flights)
        if not self.nonces.is_barred or self._barrier != self.nonces.confirmed:
            self._barred.reset()
        if self.nonces.is_barred:
            self._barred.wait(timestamp)
        self._barrier = self.nonces.confirmed
        return mined

    def _line_up(self, mined: int, pooled: int, flights: Flights) -> None:
        """Start the nonces over; what was given up and is in the pool after all is no stranger's."""
        self.nonces.synchronise(mined, pooled, flights.nonces(self.address))
        if flights.reclaim(self.address, self.nonces.foreign):
            self.nonces.synchronise(mined, pooled, flights.nonces(self.address))

    async def affords(self, plan: Plan, before: Sequence[Plan], flights: Flights) -> bool:
        """Whether the balance covers a plan's gas at its worst, after all sent or about to be."""
        needed = needed_up([*before, plan]) + flights.reserved(self.address)
        return await self.covers(Wei(needed))

    async def covers(self, worst: Wei) -> bool:
        """Whether the balance covers gas at its worst; what was known is read anew before it is no."""
        if self._balance < worst:
            await self.recount()
        return self._balance >= worst

    async def recount(self) -> None:
        """Read the balance anew: more moved than the gas paid here."""
        self._balance = await self._read_balance()

    def pay(self, gas: Wei) -> None:
        """Account for the gas of a settled transaction, negative when a reorg gives it back."""
        self._balance -= gas

    async def sign(self, plan: Plan, *, private: bool = False) -> Signed:
        """Sign a plan on the next nonce; the nonce stays held."""
        nonce = self.nonces.take()
        try:
            return await self.sign_on(plan, nonce, private=private)
        except BaseException:
            self.nonces.give_back(nonce)
            raise

    async def sign_on(
        self, plan: Plan, nonce: int, *, cancels: bool = False, private: bool = False
    ) -> Signed:
        """Sign a plan on a nonce it holds; one that cancels only sends nothing to this account."""
        asked: dict[str, int | bytes] = {
            "chainId": self._chain_id,
            "nonce": nonce,
            "maxPriorityFeePerGas": plan.fees.priority_fee,
            "maxFeePerGas": plan.fees.max_fee,
            "gas": min(plan.gas_limit, CANCEL_GAS) if cancels else plan.gas_limit,
            "to": self.address if cancels else plan.contract,
            "value": 0,
            "data": b"" if cancels else plan.calldata,
        }
        try:
            raw, tx_hash = await self._signer.sign(asked)
        except TransientError:
            self._silent_at = max(self._silent_at or 0, plan.head.timestamp)
            raise
        self._silent_at = None
        return Signed(plan, self.address, nonce, raw, tx_hash, cancels, private)

    async def hand_over(self, signed: Signed) -> tuple[Answer, str]:
        """Give the bytes to the node once; return what it made of them and its words."""
        try:
            await self._rpc.request("eth_sendRawTransaction", [to_hex(signed.raw)])
        except TransientError as error:
            words = error.message if isinstance(error, RpcError) else str(error)
            return classify(error), words
        return Answer.ACCEPTED, ""

    async def _count(self, tag: str) -> int:
        params = [to_hex(self.address), tag]
        return quantity(await self._rpc.request("eth_getTransactionCount", params))

    async def _read_balance(self) -> int:
        params = [to_hex(self.address), "latest"]
        return quantity(await self._rpc.request("eth_getBalance", params))
