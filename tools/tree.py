# SPDX-License-Identifier: Apache-2.0
"""The files of the tree, for the checkers in this folder."""

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
SKIPPED = {".git", "node_modules", "__pycache__"}


def _listed_by_git():
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, check=False)
    if done.returncode != 0:
        return None
    return [pathlib.Path(name) for name in done.stdout.decode().split("\0") if name]


def _walked():
    for folder, names, files in os.walk(ROOT):
        names[:] = [n for n in names if n not in SKIPPED and not n.startswith("build")]
        for name in files:
            yield (pathlib.Path(folder) / name).relative_to(ROOT)


def source_files(endings):
    """Relative paths of tracked and new files (not ignored ones) with one of the endings."""
    listed = _listed_by_git()
    found = listed if listed is not None else _walked()
    return sorted(p for p in found if p.name.endswith(tuple(endings)) and (ROOT / p).is_file())
