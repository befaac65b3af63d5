#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The TLS libraries that Tulle builds with, compared by themselves: bench/tlslib.c with each of them.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
aws_lc=$(tools/awslc.sh)
cc -O2 -Wno-deprecated-declarations -o "$work/openssl" bench/tlslib.c -lssl -lcrypto
cc -O2 -isystem "$aws_lc/include" -o "$work/aws-lc" bench/tlslib.c "$aws_lc/lib/libssl.a" "$aws_lc/lib/libcrypto.a" -lpthread

for round in 1 2 3; do
    for candidate in "openssl X25519" "aws-lc X25519" "aws-lc X25519MLKEM768"; do
        read -r library groups <<<"$candidate"
        echo "round $round, $library, $groups: $("$work/$library" "$groups" | paste -sd' ')"
    done
done
