#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Build AWS-LC, the TLS library, once for this machine, and print the folder that has it: include/,
# lib/libssl.a, lib/libcrypto.a. Its source comes from the registry of Rust packages, where it is the
# crate aws-lc-sys; nothing of Rust is built. Decision 0013 says why this library.
#
#   tools/awslc.sh             prints the folder; builds what is missing (two to four minutes)
#   tools/awslc.sh --have      is it built already?
#
# The folder lies in the cache of the user who builds ($TULLE_CACHE, else $XDG_CACHE_HOME/tulle, else
# ~/.cache/tulle), so that all builds of this and other checkouts share it.
set -euo pipefail

version=0.47.0
sha256=8bfbe32ac36b3c428696ce315464181bc4029d689fd58e3f2a4e58c252242f52

cache=${TULLE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/tulle}
target=$cache/aws-lc-sys-$version
if [ -e "$target/lib/libssl.a" ]; then
    [ "${1:-}" = --have ] || echo "$target"
    exit 0
fi
[ "${1:-}" != --have ] || exit 1

say() { echo "aws-lc: $*" >&2; }
work=
finish() {
    local code=$?
    rm -rf "$work"
    [ "$code" -eq 0 ] || say "OpenSSL of the system is used instead; decision 0013 has the difference"
}
trap finish EXIT
for program in cargo cmake ninja g++; do
    if ! command -v "$program" >/dev/null; then
        say "$program is missing: run tools/deps.sh build as root"
        exit 69
    fi
done

# Two builds at once must not meet: the second one waits and finds the work done.
mkdir -p "$cache"
exec 9>"$cache/aws-lc.lock"
flock 9
if [ -e "$target/lib/libssl.a" ]; then
    echo "$target"
    exit 0
fi

work=$(mktemp -d "$cache/aws-lc.XXXXXX")
say "getting and building aws-lc-sys $version, once for this machine; this takes some minutes"
mkdir -p "$work/src"
: >"$work/src/lib.rs"
printf '[package]\nname = "source-of-aws-lc"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\naws-lc-sys = "=%s"\n' \
    "$version" >"$work/Cargo.toml"
(cd "$work" && cargo vendor vendor) >"$work/log" 2>&1 || {
    tail -n 5 "$work/log" >&2
    say "the crate aws-lc-sys $version cannot be had: is the registry reachable?"
    exit 69
}
if ! grep -q "\"package\":\"$sha256\"" "$work/vendor/aws-lc-sys/.cargo-checksum.json"; then
    say "the crate is not the one that this tree was tested with: its checksum differs"
    exit 76
fi
source=$work/vendor/aws-lc-sys/aws-lc
# The kernel's random numbers are enough; timing the processor as a second source costs each start milliseconds.
{
    cmake -G Ninja -S "$source" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_POSITION_INDEPENDENT_CODE=ON \
        -DBUILD_SHARED_LIBS=OFF -DBUILD_TESTING=OFF -DBUILD_TOOL=OFF -DDISABLE_GO=ON -DDISABLE_PERL=ON -DDISABLE_CPU_JITTER_ENTROPY=ON &&
        ninja -C "$work/build" ssl crypto
} >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    say "the build failed"
    exit 70
}
mkdir -p "$work/out/lib"
cp -r "$source/include" "$work/out/include"
cp "$work/build/ssl/libssl.a" "$work/build/crypto/libcrypto.a" "$work/out/lib/"
cp "$source/LICENSE" "$work/out/"
rm -rf "$target"
mv "$work/out" "$target"
echo "$target"
