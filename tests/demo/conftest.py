# SPDX-License-Identifier: Apache-2.0
"""Makes stack.py importable whatever the import mode and the folder that pytest is started from."""

import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
