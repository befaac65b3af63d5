# SPDX-License-Identifier: Apache-2.0
"""Do the fuzz corpora still reach the code that they are for?

Usage: coverage.py BUILD, a build folder made with -Db_coverage=true whose fuzz programs are built.
Runs each target of coverage.conf over its corpus, counts lines with gcov, compares with the floor.
"""
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def targets():
    for line in (ROOT / "tests/fuzz/coverage.conf").read_text().splitlines():
        if line and not line.startswith("#"):
            name, floor, *files = line.split()
            yield name, float(floor), files


def forget(build):
    for old in build.rglob("*.gcda"):
        old.unlink()


def lines_run(build, files):
    """Lines of `files` that were run, and all of them, over every program that holds them."""
    run, known = set(), set()
    for note in build.rglob("*.gcda"):
        done = subprocess.run(["gcov", "--json-format", "--stdout", str(note)], cwd=build,
                              capture_output=True, check=True)
        for text in done.stdout.decode().splitlines():
            for entry in json.loads(text)["files"]:
                path = (build / entry["file"]).resolve()
                name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else ""
                if name in files:
                    for line in entry["lines"]:
                        known.add((name, line["line_number"]))
                        if line["count"]:
                            run.add((name, line["line_number"]))
    return run, known


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    failed = 0
    for name, floor, files in targets():
        program = build / "tests/fuzz" / f"fuzz_{name}_replay"
        corpus = ROOT / "tests/fuzz/corpus" / name
        if not program.exists():
            print(f"FAILED  fuzz coverage {name}: {program} is not built")
            failed += 1
            continue
        forget(build)
        done = subprocess.run([program, corpus], capture_output=True, text=True)
        run, known = lines_run(build, files)
        share = 100.0 * len(run) / len(known) if known else 0.0
        good = done.returncode == 0 and share >= floor
        failed += not good
        print(f"{'ok     ' if good else 'FAILED '} fuzz coverage {name}: {share:.1f} % of {len(known)} lines, floor {floor:.0f} %"
              + ("" if done.returncode == 0 else f"; the replay failed: {done.stderr.strip()[-300:]}"))
    forget(build)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
