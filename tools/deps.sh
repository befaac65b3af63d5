#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Install what a build, the tests or the demo need, from Debian 12's own packages.
#
#   tools/deps.sh build|test|demo|bench      (each includes those before it; `bench` is separate)
#
# A package that ships a daemon (redis, prometheus, nginx) must not leave it running: for the time
# of the installation a policy-rc.d refuses every start, and is removed again whatever happens.
# Nothing is asked, nothing is upgraded; a machine that has everything is left untouched.
set -eu

build="gcc libc6-dev meson ninja-build pkg-config libssl-dev libnghttp2-dev libprotobuf-c-dev
 protobuf-c-compiler protobuf-compiler libprotobuf-dev libc-ares-dev libcurl4-openssl-dev libjansson-dev libyaml-dev libpcre2-dev zlib1g-dev
 python3 cmake g++ ca-certificates"
# Fetches the source of AWS-LC (tools/awslc.sh); Debian's package `cargo` is too old for the registry of today.
command -v cargo >/dev/null || build="$build cargo-web"
demo="$build iproute2 nftables prometheus redis-server redis-tools curl
 python3-grpcio python3-protobuf python3-aiohttp python3-redis
 golang-go golang-google-grpc-dev golang-goprotobuf-dev"
tests="$demo libcmocka-dev python3-pytest python3-pytest-xdist python3-yaml python3-requests
 python3-websockets python3-cryptography tcpdump nodejs nginx-light libasan8 libubsan1 libtsan2"
bench="$demo wrk nginx-light haproxy nghttp2-client nghttp2-server openssl python3-venv linux-perf valgrind"

case "${1:-}" in
build) want=$build ;;
long) want="$tests wrk clang libclang-rt-14-dev" ;;
demo) want=$demo ;;
test) want=$tests ;;
bench) want=$bench ;;
*)
    echo "usage: tools/deps.sh build|demo|test|long|bench" >&2
    exit 64
    ;;
esac

missing=""
for package in $want; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "these packages are missing:$missing" >&2
    echo "run as root:  tools/deps.sh $1" >&2
    exit 77
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
fi

echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "could not install packages; the whole log is in $log" >&2
    exit 69
fi
rm -f "$log"
