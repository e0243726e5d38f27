"""Margin calls: who is warned before a liquidation, when, and of what."""
