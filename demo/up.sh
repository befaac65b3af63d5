#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Bring up the mesh and the demo application on this machine, wait until traffic flows, and say what was done.
# A second run finds the home up and shows it again; demo/down.sh ends it.
#
#   DEMO_PORT=N    port on localhost (8080; 0: any)   DEMO_HOME=NAME  name of the home (demo)
#   DEMO_BUILD=DIR folder of the programs (build)
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

home=${DEMO_HOME:-demo}
tulle=${DEMO_BUILD:-build}/tulle
port=${DEMO_PORT:-8080}

tools/deps.sh demo
demo/build.sh build/demo

# Is something listening on this port of localhost?
busy() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

if "$tulle" local status --home "$home" >/dev/null 2>&1; then
    echo "the demo is up already"
else
    # What a killed home left behind, if anything.
    "$tulle" local down --home "$home" >/dev/null
    if [ "$port" -ne 0 ] && busy "$port"; then
        echo "port $port is in use; another one is taken (DEMO_PORT=N chooses)"
        port=0
    fi
    echo "starting the mesh and the demo application"
    PATH="$PWD/build/demo/bin:$PATH" "$tulle" local up demo/manifests --home "$home" --publish "demo/web:80=$port"
fi

# Figures are a fair picture once Prometheus, which looks every 10 s, has seen some seconds of traffic.
echo "waiting for traffic to be measured (Prometheus looks every 10 s)"
measured() {
    "$tulle" stat deploy -n demo --home "$home" -t 30s -o json 2>/dev/null |
        /usr/bin/python3 -c '
import json, sys
rows = {row["name"]: row for row in json.load(sys.stdin)}
http = all((rows.get(name, {}).get("rps") or 0) > 1 for name in ("web", "fabrics", "voting"))
tcp = rows.get("redis", {}).get("tcp_open_connections")
sys.exit(0 if http and tcp else 1)'
}
deadline=$((SECONDS + 120))
until measured; do
    if [ "$SECONDS" -ge "$deadline" ]; then
        echo "no traffic was measured within two minutes; see: $tulle check --home $home" >&2
        "$tulle" local status --home "$home" >&2 || true
        exit 1
    fi
    read -r -t 1 <> <(:) || true
done

address=$("$tulle" local status --home "$home" | sed -n 's/^published: demo\/web:80 at //p')
echo
"$tulle" stat deploy -n demo --home "$home" -t 30s
cat <<TEXT

The demo is at ${address:-an address that "$tulle local status --home $home" shows}
Every vote for cashmere fails on purpose: web and voting are below 100 %.
TEXT

echo
echo "Try next:"
line() { printf '  %-56s  %s\n' "$1" "$2"; }
line "export TULLE_HOME=$home" "the home to ask"
line "$tulle stat deploy -n demo" "figures of services"
line "$tulle stat po -n demo -o wide" "of each pod"
line "$tulle stat deploy/web -n demo --to svc/voting" "from web to voting"
line "$tulle stat-outbound deploy/web -n demo" "by route and backend"
line "$tulle check --proxy" "what does not work"
line "$tulle local status" "the pods"
line "$tulle local logs web -n demo -f" "what web writes"
line "$tulle local logs web -n demo -c linkerd-proxy" "what its proxy says"
line "$tulle diagnostics proxy-metrics deploy/web -n demo" "all of its metrics"
if [ "$home" = demo ]; then
    line "make demo-down" "end it"
else
    line "DEMO_HOME=$home make demo-down" "end it"
fi
