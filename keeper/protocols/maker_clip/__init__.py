"""Auctions of Maker's and Sky's Clipper: positions whose price falls until somebody takes them."""

from keeper.protocols.maker_clip.market import MakerClip

__all__ = ["MakerClip"]
