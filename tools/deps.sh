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
 python3"
# For AWS-LC (tools/awslc.sh); a build without them takes OpenSSL. Debian's package `cargo` is too old for the registry
# of today.
optional="cmake g++ ca-certificates"
command -v cargo >/dev/null || optional="$optional cargo-web"
demo="$build iproute2 nftables prometheus redis-server redis-tools curl
 python3-grpcio python3-protobuf python3-aiohttp python3-redis
 golang-go golang-google-grpc-dev golang-goprotobuf-dev"
tests="$demo libcmocka-dev python3-pytest python3-pytest-xdist python3-yaml python3-requests
 python3-websockets python3-cryptography python3-pip tcpdump nodejs nginx-light libasan8 libubsan1 libtsan2"
bench="$demo wrk nginx-light haproxy nghttp2-client nghttp2-server openssl python3-venv linux-perf valgrind strace"

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

# missing_of PACKAGE...: those that are not installed.
missing_of() {
    for package in "$@"; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || printf ' %s' "$package"
    done
}

missing=$(missing_of $want)
if [ -n "$missing" ] && [ "$(id -u)" -ne 0 ]; then
    echo "these packages are missing:$missing" >&2
    echo "run as root:  tools/deps.sh $1" >&2
    exit 77
fi
extra=
if [ "$(id -u)" -eq 0 ] && ! "$(dirname "$0")/awslc.sh" --have; then
    extra=$(missing_of $optional)
fi
[ -n "$missing$extra" ] || exit 0

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
apt_install() {
    echo "installing:$*"
    apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1
}
apt-get update >"$log" 2>&1 || true # what it is needed for says whether that matters
if [ -n "$missing" ] && ! apt_install $missing; then
    tail -n 20 "$log" >&2
    echo "could not install packages; the whole log is in $log" >&2
    exit 69
fi
if [ -n "$extra" ] && ! apt_install $extra; then
    echo "could not install$extra: they are for AWS-LC alone, and OpenSSL is used instead" >&2
fi
rm -f "$log"
