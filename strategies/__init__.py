"""Strategies shipped with the keeper, each one file written against `keeper` alone."""
