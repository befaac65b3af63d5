# SPDX-License-Identifier: Apache-2.0
"""What all tests of this folder share."""


def pytest_configure(config):
    config.addinivalue_line("markers", "network: needs a package registry besides this machine")
