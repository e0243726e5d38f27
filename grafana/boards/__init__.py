"""The panels of each board."""
