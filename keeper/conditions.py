"""What plans and bids rest on beside the book: the inclusion model and its fees, own capital, own bids."""

from collections.abc import Sequence
from dataclasses import replace

from keeper.chain.data_fee import data_fee_calls, read_data_fee
from keeper.chain.fee_history import FeeHistories
from keeper.fees import Inclusion
from keeper.planning.contest import Contest
from keeper.planning.inventory import Inventory
from keeper.types import Bid, Call, CallResult, Head, Plan, Quote, Receipt, View


class Conditions:
    """Add to each view what a chain charges for inclusion; `histories` is None where nobody bids.

    So does `inventory` what the contract has of its own, unless it is None. `view` is the last one
    completed, None before the first.
    """

    def __init__(
        self,
        inclusion: Inclusion = Inclusion.AUCTION,
        histories: FeeHistories | None = None,
        contest: Contest | None = None,
        inventory: Inventory | None = None,
    ) -> None:
        self.inclusion = inclusion
        self._histories = histories
        self._contest = Contest() if contest is None else contest
        self._inventory = inventory
        self._bidding = False
        self.view: View | None = None

    def calls(self) -> Sequence[Call]:
        """Return the reads to make with each head's prices."""
        fees = data_fee_calls(self.inclusion)
        return fees if self._inventory is None else [*fees, *self._inventory.calls()]

    def begin(self, head: Head) -> None:
        """Start what is read beside the line at a head."""
        if self._histories is not None:
            self._histories.begin(head, bidding=self._bidding)

    def complete(self, view: View, results: Sequence[CallResult]) -> View:
        """Return the view with the answers to `calls`; raise `TransientError` when one of fees is missing."""
        histories, inventory = self._histories, self._inventory
        fees = len(data_fee_calls(self.inclusion))
        self.view = replace(
            view,
            inclusion=self.inclusion,
            fee_history=None if histories is None else histories.latest(view.head),
            bid_record=self._contest.record,
            data_fee=read_data_fee(self.inclusion, results[:fees]),
            inventory={} if inventory is None else inventory.usable(results[fees:]),
        )
        return self.view

    def bid(self, bids: Sequence[tuple[Quote, Bid]]) -> None:
        """Take what is bid at a head; positions nobody wants stay at risk for years and do not count."""
        self._bidding = bool(bids)

    def learn(self, receipts: Sequence[Receipt]) -> None:
        """Take how sent plans ended."""
        for receipt in receipts:
            self._contest.settled(receipt)

    def sent(self, plans: Sequence[Plan]) -> None:
        """Take plans that were handed over."""
        self._contest.sent(plans)
