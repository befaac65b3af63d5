#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Check the conventions that a machine can check.

Prints each violation as file:line: rule: sentence; exits with 1 if there is one. Exceptions, each
with its reason, stand in tools/style.conf.
"""

import pathlib
import re
import sys

sys.dont_write_bytecode = True
from tree import ROOT, source_files  # noqa: E402

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 110

C_ENDINGS = (".c", ".h", ".def")
OTHER_ENDINGS = (".py", ".sh", ".proto", "meson.build", ".ts", ".svelte")

CALL = r"(?<![\w.>])({})\s*\("
BANNED = re.compile(CALL.format(
    "strcpy|strcat|strncpy|strncat|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|sscanf|rand|srand|"
    "alloca|setjmp|longjmp|signal|localtime|gmtime|inet_addr|inet_ntoa"))
HEAP = re.compile(CALL.format(
    "malloc|calloc|realloc|reallocarray|free|strdup|strndup|asprintf|vasprintf|malloc_trim"))
PRINT = re.compile(CALL.format("printf|vprintf|puts|putchar") +
                   r"|(?<!\w)fprintf\s*\(\s*(stdout|stderr)\b")
LOCK = re.compile(r"\bpthread_(mutex|rwlock|spin)_\w+")
TYPEDEF = re.compile(r"\btypedef\s+(struct|union|enum)\b")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(match):
    """Comments and literals become blanks; the lines stay where they are."""
    text = match.group(0)
    if text.startswith("//"):
        return "//"
    return re.sub(r"[^\n]", " ", text)


def read_exceptions(path):
    found = set()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split("#")[0].split(None, 2)
        if not words:
            continue
        if len(words) < 3:
            sys.exit(f"{path}:{number}: an exception is `path[:function] rule reason`")
        found.add((words[0], words[1]))
    return found


def is_generated(path, lines):
    return ".pb-c." in path.name or any("Generated" in line for line in lines[:5])


def functions(lines):
    """(name, line of the brace, length): a body stands between braces in column 0."""
    start = None
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start is not None:
            head = " ".join(lines[max(0, start - 8):start - 1])
            names = re.findall(r"(\w+)\s*\(", head.rsplit("}", 1)[-1].rsplit(";", 1)[-1])
            yield (names[0] if names else "?"), start, number - start + 1
            start = None


def check_text(path, lines):
    """What holds for every kind of source."""
    top = lines[:3]
    if not any("SPDX-License-Identifier: Apache-2.0" in line for line in top):
        yield 1, "spdx", "the SPDX line is missing at the top"
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            yield number, "blanks", "blanks at the end of the line"
        if "\t" in line and path.suffix not in (".ts", ".svelte"):
            yield number, "tabs", "a tab; indent with blanks"
    if len(lines) > FILE_LINES_MAX:
        yield len(lines), "file-length", f"{len(lines)} lines; at most {FILE_LINES_MAX}"


def check_calls(path, code):
    in_core = path.parts[:2] == ("lib", "core")
    may_print = path.parts[0] in ("cli", "local") or path.name == "main.c"
    may_lock = path.parts[0] == "control" or path == pathlib.Path("lib/core/mailbox.c")
    for number, line in enumerate(code, 1):
        match = BANNED.search(line)
        if match:
            yield number, "banned", f"{match.group(1)}() is unbounded, unsafe or hides errors"
        match = HEAP.search(line)
        if match and not in_core:
            yield number, "heap", f"{match.group(1)}(): use core/alloc.h, an arena or a chunk"
        if PRINT.search(line) and not may_print:
            yield number, "print", "printing belongs to cli/, local/ and the main.c files; log or return"
        if LOCK.search(line) and not may_lock:
            yield number, "lock", "locks belong to lib/core/mailbox.c and control/; send a message"
        if TYPEDEF.search(line):
            yield number, "typedef", "no typedef for structs, unions and enums"
        if "//" in line:
            yield number, "comment", "comments are written /* so */"


def check_guard(path, lines):
    parts = [p for p in path.parts if p != "lib"]
    guards = {re.sub(r"\W", "_", "_".join(names)).upper() for names in (parts, parts[-2:], parts[1:])}
    text = "\n".join(lines[:6])
    if not any(f"#ifndef {guard}\n#define {guard}" in text for guard in guards):
        yield 2, "guard", f"the include guard is {' or '.join(sorted(guards))}, behind the SPDX line"


def check_c(path, lines):
    in_tests = path.parts[0] == "tests"
    code = TOKEN.sub(blank, "\n".join(lines)).split("\n")
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MAX and path.suffix != ".def":
            yield number, "columns", f"{len(line)} columns; at most {COLUMNS_MAX}"
        if UNFINISHED.search(line):
            yield number, "unfinished", "finish it, or write down the limit and its reason"
    if path.suffix == ".h":
        yield from check_guard(path, lines)
    if not in_tests:
        yield from check_calls(path, code)


def check_functions(path, lines):
    code = TOKEN.sub(blank, "\n".join(lines)).split("\n")
    for name, start, length in functions(code):
        if length > FUNCTION_LINES_MAX:
            yield start, name, f"{name}() has {length} lines; at most {FUNCTION_LINES_MAX}"


def violations(path, exceptions):
    lines = (ROOT / path).read_text(errors="replace").split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    if is_generated(path, lines):
        return
    found = list(check_text(path, lines))
    if path.suffix in C_ENDINGS:
        found += check_c(path, lines)
    for number, rule, sentence in found:
        if (str(path), rule) not in exceptions:
            yield number, rule, sentence
    if path.suffix == ".c":
        for number, name, sentence in check_functions(path, lines):
            if (f"{path}:{name}", "function-length") not in exceptions:
                yield number, "function-length", sentence


def main():
    exceptions = read_exceptions(pathlib.Path(__file__).resolve().parent / "style.conf")
    bad = 0
    for path in source_files(C_ENDINGS + OTHER_ENDINGS):
        for number, rule, sentence in sorted(violations(path, exceptions)):
            print(f"{path}:{number}: {rule}: {sentence}")
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
