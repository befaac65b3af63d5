#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Build the demo's programs, without network, from Debian's packages (tools/deps.sh demo).
#
#   demo/build.sh [OUTDIR]        default: build/demo beside this folder
#
# Afterwards OUTDIR/bin holds demo-web, demo-voting, demo-vote-bot and demo-fabrics. bin and lib can be
# copied anywhere together, for instance into an image. Nothing is done when no source has changed; two
# builds into one folder wait for each other.
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../build/demo}

fail()
{
    echo "demo/build.sh: $1" >&2
    exit 1
}

need()
{
    [ -e "$1" ] || fail "$1 is missing (package $2): run tools/deps.sh demo as root"
}

need /usr/bin/go golang-go
need /usr/bin/protoc protobuf-compiler
need /usr/bin/protoc-gen-go golang-goprotobuf-dev
need /usr/share/gocode/src/google.golang.org/grpc golang-google-grpc-dev
need /usr/bin/python3 python3
need /usr/lib/python3/dist-packages/grpc python3-grpcio
need /usr/lib/python3/dist-packages/google/protobuf python3-protobuf
need /usr/lib/python3/dist-packages/aiohttp python3-aiohttp
need /usr/lib/python3/dist-packages/redis python3-redis

mkdir -p "$out" 2>/dev/null || fail "cannot create $out"
out=$(cd "$out" && pwd)
exec 9>"$out/.lock" || fail "cannot write to $out"
flock 9

# --- has anything changed? ---

digest=$({
    cd "$here"
    find build.sh bin bot common fabrics proto voting web -type f ! -path '*/__pycache__/*' -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum
    /usr/bin/go version
    dpkg-query -W -f '${Package} ${Version}\n' golang-google-grpc-dev protoc-gen-go-1-3 \
        protobuf-compiler python3-protobuf 2>/dev/null || true
} | sha256sum)
if [ -e "$out/.digest" ] && [ "$(cat "$out/.digest")" = "$digest" ] && [ -x "$out/bin/demo-fabrics" ]; then
    exit 0
fi

rm -rf "$out/next"
mkdir -p "$out/next/bin" "$out/next/lib/demo" "$out/go/src/demo/fabricspb" "$out/go/src/demo/fabrics"
log=$out/build.log
: >"$log"

# run WHAT COMMAND...: WHAT names the step in an error.
run()
{
    what=$1
    shift
    "$@" >>"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        fail "$what failed; the whole log is in $log"
    }
}

# --- the Go program ---

run "generating Go code from demo/proto" /usr/bin/protoc --plugin=protoc-gen-go=/usr/bin/protoc-gen-go -I"$here/proto" \
    --go_out=plugins=grpc,paths=source_relative:"$out/go/src/demo/fabricspb" "$here/proto/fabrics.proto"
rm -f "$out"/go/src/demo/fabrics/*
cp "$here"/fabrics/*.go "$out/go/src/demo/fabrics/"
# Another Go's settings must not reach Debian's: every variable that matters is given or removed.
run "compiling demo/fabrics" env -u GOROOT -u GOOS -u GOARCH -u GOWORK GO111MODULE=off GOFLAGS= GOENV=off GOTOOLCHAIN=local \
    CGO_ENABLED=0 GOPATH="/usr/share/gocode:$out/go" GOCACHE="$out/cache" \
    /usr/bin/go build -buildvcs=false -trimpath -ldflags '-s -w' \
    -o "$out/next/bin/demo-fabrics" demo/fabrics

# --- the Python programs ---

run "generating Python code from demo/proto" /usr/bin/protoc -I"$here/proto" --python_out="$out/next/lib/demo" \
    "$here/proto/fabrics.proto" "$here/proto/voting.proto"
cp "$here"/common/*.py "$here"/voting/*.py "$here"/web/*.py "$here"/bot/*.py "$out/next/lib/demo/"
cp -R "$here/web/page" "$out/next/lib/demo/page"
cp "$here"/bin/demo-* "$out/next/bin/"
chmod 755 "$out"/next/bin/*

# --- in place, by renames: a program that runs keeps its file ---

mkdir -p "$out/bin" "$out/lib"
rm -rf "$out/lib/demo.old"
[ ! -e "$out/lib/demo" ] || mv "$out/lib/demo" "$out/lib/demo.old"
mv "$out/next/lib/demo" "$out/lib/demo"
for program in "$out"/next/bin/*; do
    mv -f "$program" "$out/bin/"
done
# Compiled where it will run from, because the path is recorded in the byte code.
run "compiling the Python programs" /usr/bin/python3 -Es -m compileall -q "$out/lib/demo"
rm -rf "$out/next" "$out/lib/demo.old"
printf '%s\n' "$digest" >"$out/.digest"
echo "demo built in $out"
