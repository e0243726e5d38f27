"""Offers of an aggregator's quote API, asked for beside the line and tried before they are trusted."""

from keeper.venues.quote_api.venue import QuoteApi

__all__ = ["QuoteApi"]
