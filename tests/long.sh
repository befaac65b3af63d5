#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What takes too long for every change: libFuzzer on each target, all tests under the thread sanitizer, scale and soak.
#
#   FUZZ_SECONDS=N   for each fuzz target (300)
#   SOAK_SECONDS=N   of load on a home (600)
#
# New inputs that a fuzzer found are kept in build-fuzz/found/TARGET; one that crashes goes into the corpus with its fix.
set -uo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

passed=0
failed=0
check() {
    local name=$1
    shift
    echo "running $name"
    if "$@"; then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
    fi
}

build_fuzzers() {
    make -s configure-fuzz || return 1
    ninja -C build-fuzz -j "$(nproc)" $(ninja -C build-fuzz -t targets all | sed -n 's/^\(tests\/fuzz\/fuzz_[a-z0-9_]*\):.*/\1/p') >/dev/null
}

fuzz() {
    local target=$1 found=build-fuzz/found/$1
    mkdir -p "$found"
    "build-fuzz/tests/fuzz/fuzz_$target" -max_total_time="${FUZZ_SECONDS:-300}" -timeout=10 -rss_limit_mb=2048 -verbosity=0 \
        -print_final_stats=1 -artifact_prefix="$found/" "$found" "tests/fuzz/corpus/$target" 2>&1 | tail -n 8
    return "${PIPESTATUS[0]}"
}

tools/deps.sh long || exit 1
check "build the fuzzers" build_fuzzers
for corpus in tests/fuzz/corpus/*; do
    check "fuzz $(basename "$corpus")" fuzz "$(basename "$corpus")"
done
check "build (OpenSSL)" make -s openssl
check "unit tests (OpenSSL)" meson test -C build-openssl --no-rebuild --timeout-multiplier 4 --print-errorlogs --no-suite fuzz
check "build (thread sanitizer)" make -s tsan
check "unit tests (thread sanitizer)" meson test -C build-tsan --no-rebuild --timeout-multiplier 10 --print-errorlogs --no-suite fuzz
check "end to end (thread sanitizer)" env TULLE_BUILD=build-tsan /usr/bin/python3 -m pytest -q -n 2 --dist loadfile tests/mesh
check "scale and soak" env TULLE_BUILD=build /usr/bin/python3 -m pytest -q tests/long

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
