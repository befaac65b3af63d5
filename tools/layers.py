#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Check that includes only point the way that tools/layers.conf allows.

Prints each violation as file:line and a sentence; exits with 1 if there is one.
"""

import pathlib
import re
import sys

sys.dont_write_bytecode = True
from tree import ROOT, source_files  # noqa: E402

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def read_rules(path):
    """folder -> set of folders it may include, itself among them."""
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    pairs = [line.split(":", 1) for line in lines if line]
    folders = [name.strip() for name, _ in pairs]
    rules = {}
    for name, allowed in pairs:
        name = name.strip()
        rules[name] = {name}
        for word in allowed.split():
            matching = [f for f in folders if f == word or (word == "lib/*" and f.startswith("lib/"))]
            if not matching:
                sys.exit(f"{path}: {name} refers to {word}, which has no line of its own")
            rules[name].update(matching)
    return rules


def folder_of(path, rules):
    """The folder of the rules that a file of the tree belongs to; None outside all."""
    for depth in (2, 1):
        name = "/".join(path.parts[:depth])
        if len(path.parts) > depth and name in rules:
            return name
    return None


def included_folder(header, rules):
    """The folder that `#include "header"` reaches into; None if there is none such."""
    first = header.split("/", 1)[0]
    for name in (f"lib/{first}", first):
        if "/" in header and name in rules:
            return name
    return None


def check_file(path, rules):
    folder = folder_of(path, rules)
    if folder is None:
        return
    text = (ROOT / path).read_text(errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        header = match.group(1)
        target = included_folder(header, rules)
        if target is None:
            if not header.endswith(".pb-c.h"):
                yield number, f'"{header}" does not name a folder of the tree; write "folder/file.h"'
        elif target not in rules[folder]:
            allowed = ", ".join(sorted(rules[folder] - {folder})) or "no other folder"
            yield number, f"{folder} may not include {target} ({header}); it may include {allowed}"


def main():
    rules = read_rules(pathlib.Path(__file__).resolve().parent / "layers.conf")
    bad = 0
    for path in source_files((".c", ".h", ".def")):
        for number, sentence in check_file(path, rules):
            print(f"{path}:{number}: {sentence}")
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
