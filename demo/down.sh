#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# End the demo's home; nothing is left behind. Also after a crash.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
exec "${DEMO_BUILD:-build}/tulle" local down --home "${DEMO_HOME:-demo}"
