"""Turn skips into failures where everything must run: KEEPER_REQUIRE_ALL=1, as CI sets it."""

import os
from collections.abc import Generator

import pytest

ALLOWED = "shared data absent"


def refusal(longrepr: object) -> str | None:
    """Return why this skip is a failure, or None where it may stand."""
    reason = str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
    reason = reason.removeprefix("Skipped: ")
    if reason.startswith(ALLOWED):
        return None
    return f"skipped where KEEPER_REQUIRE_ALL=1 asks for every test: {reason}"


def forbid(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    if (why := refusal(report.longrepr)) is not None:
        report.outcome = "failed"
        report.longrepr = why


class NoSkip:
    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        forbid(report)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self,
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        forbid(report)
        return report


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("KEEPER_REQUIRE_ALL") == "1":
        config.pluginmanager.register(NoSkip(), "keeper-noskip")
