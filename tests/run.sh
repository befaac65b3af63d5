#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Run everything that must pass. Each part runs even when an earlier one failed; the last line is
# `N passed, N failed`, and the exit status says the same.
set -uo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

passed=0
failed=0
flaky="" # tests that failed and passed when they were run again, a line each

# check NAME COMMAND...: one command that counts as one test.
check() {
    local name=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
    fi
}

# Unit tests of one build folder; counted by program.
unit_tests() {
    local build=$1 counts
    rm -f "$build/meson-logs/testlog.json"
    meson test -C "$build" --no-rebuild --timeout-multiplier 4 --print-errorlogs || true
    counts=$(/usr/bin/python3 - "$build/meson-logs/testlog.json" <<'PY'
import json, sys
good = bad = 0
try:
    with open(sys.argv[1]) as log:
        for line in log:
            if json.loads(line)["result"] in ("OK", "EXPECTEDFAIL"):
                good += 1
            else:
                bad += 1
except OSError:
    bad = 1
print(good, bad)
PY
    )
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
}

# "PASSED FAILED" of a report of pytest.
counts_of() {
    /usr/bin/python3 - "$1" <<'PY'
import sys, xml.etree.ElementTree as tree
try:
    suite = tree.parse(sys.argv[1]).getroot().find("testsuite")
    total, bad = int(suite.get("tests")), int(suite.get("failures")) + int(suite.get("errors"))
    print(total - bad - int(suite.get("skipped")), bad)
except (OSError, tree.ParseError, AttributeError):
    print(0, 1)
PY
}

# names_of REPORT passed|failed: tests in a report of pytest that did, a line each.
names_of() {
    /usr/bin/python3 - "$@" <<'PY'
import sys, xml.etree.ElementTree as tree
try:
    cases = list(tree.parse(sys.argv[1]).getroot().iter("testcase"))
except (OSError, tree.ParseError):
    cases = []
for case in cases:
    outcomes = {part.tag for part in case} & {"failure", "error", "skipped"}
    if outcomes - {"skipped"} if sys.argv[2] == "failed" else not outcomes:
        print(f"{case.get('classname')}::{case.get('name')}")
PY
}

# Tests in Python, two at a time; counted by test. The programs come from the folder given. What fails is run once
# more, alone: these tests drive dozens of processes, and a machine that others use may starve one. Its first failure
# stays on the screen, and the end of the run names it as flaky.
python_tests() {
    local build=$1 report cache counts again first
    shift
    report=$(mktemp)
    cache=$(mktemp -d)
    TULLE_BUILD=$build timeout 1500 /usr/bin/python3 -m pytest -q -n 2 --dist loadfile -o cache_dir="$cache" \
        --junitxml="$report" "$@" || true
    counts=$(counts_of "$report")
    if [ "${counts#* }" -gt 0 ] && [ "${counts% *}" -gt 0 ]; then
        echo "running the ${counts#* } that failed once more"
        first=$(names_of "$report" failed)
        : >"$report"
        TULLE_BUILD=$build timeout 600 /usr/bin/python3 -m pytest -q -o cache_dir="$cache" --last-failed \
            --junitxml="$report" "$@" || true
        again=$(counts_of "$report")
        flaky+=$(grep -xF -f <(names_of "$report" passed) <<<"$first" | sed 's/^/flaky   /')
        counts="$((${counts% *} + ${again% *})) ${again#* }"
    fi
    rm -rf "$report" "$cache"
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
}

# Every fuzz corpus must still reach the code that it is for.
fuzz_coverage() {
    local build=build-coverage log=build-coverage-targets.log
    {
        make -s configure-coverage &&
        ninja -C "$build" -j "$(nproc)" $(ninja -C "$build" -t targets all | sed -n 's/^\(tests\/fuzz\/fuzz_[a-z0-9_]*_replay\):.*/\1/p')
    } >"$log" 2>&1 || { tail -n 30 "$log"; return 1; }
    rm -f "$log"
    /usr/bin/python3 tests/fuzz/coverage.py "$build"
}

if ! tools/deps.sh test; then
    echo "packages that the tests need are missing" >&2
    echo "0 passed, 1 failed"
    exit 1
fi

check "layers" /usr/bin/python3 tools/layers.py
check "style" /usr/bin/python3 tools/style.py
check "build (address and undefined sanitizers)" make asan
if [ -f build-asan/build.ninja ]; then
    unit_tests build-asan
fi
check "fuzz coverage" fuzz_coverage
# Tests of memory run them, for a sanitizer's would hide what is measured.
check "build (release programs)" make -s programs
python_tests build-asan tests/demo tests/mesh

if [ -n "$flaky" ]; then
    echo "these tests failed and passed when they were run again: find out why"
    echo "$flaky"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
