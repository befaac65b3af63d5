#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/errors.md, from proxy/failure.def and proxy/failure_hint.def.

    tools/errors.py            says what is out of date, exit code 1 then
    tools/errors.py --write    brings it up to date
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/errors.md"
BEGIN = "<!-- from failure.def by tools/errors.py -->"
END = "<!-- end -->"
STRING = r'"((?:[^"\\]|\\.)*)"'


def entries(path, macros):
    """(macro, [argument...]) of each entry of a .def file; adjacent strings are one."""
    text = re.sub(r"/\*.*?\*/", "", (ROOT / path).read_text(), flags=re.S)
    for match in re.finditer(r"^(%s)\(" % "|".join(macros), text, flags=re.M):
        args, at, word = [], match.end(), ""
        while text[at] != ")":
            string = re.compile(STRING).match(text, at)
            if string:
                word += string[1].replace('\\"', '"')
                at = string.end()
            elif text[at] == ",":
                args.append(word.strip())
                word, at = "", at + 1
            else:
                word += text[at] if not text[at].isspace() else ""
                at += 1
        yield match[1], args + [word.strip()]


def failures():
    for _, (name, cause, phase, status, grpc, _closes, label, text) in entries("proxy/failure.def", ["FAILURE"]):
        yield name, dict(cause=cause, phase=phase.lower(), status=status, grpc=grpc, label=label, text=text)


def hints():
    found = {}
    for macro, args in entries("proxy/failure_hint.def", ["HINTS", "HINT"]):
        pairs = [(args[1].lower(), args[2])] + ([(args[3].lower(), args[4])] if macro == "HINTS" else [])
        assert args[0] not in found, f"two hints for {args[0]}"
        found[args[0]] = pairs
    return found


def table():
    known = hints()
    lines = ["| cause | phase | HTTP, gRPC | `error` | what failed | whose fault | what to look at |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for name, f in failures():
        if name not in known:
            sys.exit(f"proxy/failure_hint.def: {name} has no hint")
        hops = zip(("inbound: ", "outbound: "), known[name]) if len(known[name]) == 2 else [("", known[name][0])]
        for hop, (fault, look) in hops:
            lines.append(f"| `{f['cause']}` | {f['phase']} | {f['status']}, {f['grpc']} | {f['label']} "
                         f"| {f['text']} | {hop}{fault} | {look} |")
    return "\n".join(lines)


def main():
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    fresh = f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"
    if "--write" in sys.argv[1:]:
        PAGE.write_text(fresh)
    elif fresh != page:
        sys.exit("docs/errors.md is out of date: run tools/errors.py --write")


if __name__ == "__main__":
    main()
