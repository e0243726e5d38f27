"""Under KEEPER_REQUIRE_ALL=1 a skip fails, unless shared data is absent."""

import pytest

pytest_plugins = ["pytester"]

SKIPS = """
import pytest

def test_tool():
    pytest.skip("no anvil here")

@pytest.mark.skip(reason="no node here")
def test_mark():
    pass

def test_data():
    pytest.skip("shared data absent: prices")

@pytest.mark.xfail(strict=True)
def test_expected():
    raise AssertionError

def test_plain():
    pass
"""


def run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, required: str
) -> dict[str, int]:
    monkeypatch.setenv("KEEPER_REQUIRE_ALL", required)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_inprocess("-p", "tests.plugin_noskip")
    return result.parseoutcomes()


def test_skip_fails_where_all_is_required(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(SKIPS)
    outcomes = run(pytester, monkeypatch, "1")
    assert outcomes == {"passed": 1, "failed": 1, "errors": 1, "skipped": 1, "xfailed": 1}


def test_skip_stands_elsewhere(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(SKIPS)
    outcomes = run(pytester, monkeypatch, "0")
    assert outcomes == {"passed": 1, "skipped": 3, "xfailed": 1}


def test_skipped_module_fails_where_all_is_required(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("import pytest\npytest.skip('no tool', allow_module_level=True)")
    assert run(pytester, monkeypatch, "1") == {"errors": 1}
