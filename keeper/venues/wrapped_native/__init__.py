"""The native coin and its wrapped token, one for one."""

from keeper.venues.wrapped_native.venue import WrappedNative

__all__ = ["WrappedNative"]
