"""Prices as a lending market reads them."""
