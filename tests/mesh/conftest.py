# SPDX-License-Identifier: Apache-2.0
"""What all tests of this folder share."""
from fixtures import homes, no_crashes, pytest_configure, pytest_runtest_makereport  # noqa: F401
