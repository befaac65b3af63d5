# SPDX-License-Identifier: Apache-2.0
"""The homes of tests/mesh, for the tests that take minutes."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "mesh"))
from fixtures import homes, no_crashes, pytest_configure, pytest_runtest_makereport  # noqa: E402,F401
