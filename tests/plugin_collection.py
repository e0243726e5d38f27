"""Collect no garbage while tests are collected, and set what they brought apart from it after.

A run holds a million objects before its first test; each full pass over them would find nothing.
"""

import gc

gc.disable()


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()
