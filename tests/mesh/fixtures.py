# SPDX-License-Identifier: Apache-2.0
"""Fixtures of tests that need homes; shared by the conftest.py of each folder that has such tests."""
import os
import sys

import pytest

sys.dont_write_bytecode = True


def pytest_configure(config):
    config.addinivalue_line("markers", "network: needs a package registry besides this machine")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """What a test's home was like when the test failed: its pods, and the ends of their logs."""
    report = (yield).get_result()
    home = getattr(item, "funcargs", {}).get("home")
    if report.when != "teardown" and report.failed and hasattr(home, "tell") and home.root.exists():
        report.sections.append(("the home", home.tell()))


@pytest.fixture(scope="module")
def homes():
    """Make homes: homes(manifests, options) is a Home that is not up yet. All of them end with the module."""
    from home import Home

    if os.geteuid() != 0:
        pytest.skip("looks into the namespaces of a home's pods: run as root")
    made = []

    def make(manifests, options=()):
        made.append(Home(manifests, options))
        return made[-1]

    yield make
    problems = []
    for home in made:
        problems += home.new_crashes()
        try:
            home.end()
        except AssertionError as problem:
            problems.append(str(problem))
    assert not problems, "\n".join(problems)


@pytest.fixture(autouse=True)
def no_crashes(request):
    """A program of ours that ended by a bug of its own fails the test that brought it there."""
    yield
    home = request.node.funcargs.get("home")
    if hasattr(home, "new_crashes"):
        problems = home.new_crashes()
        assert not problems, "\n".join(problems)
