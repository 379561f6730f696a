#!/usr/bin/env bash
# Healthy: no Ray node runs here (a one-off command), or the node's own agent says that it is.
set -euo pipefail
pgrep -x raylet > /dev/null || exit 0
port="${RAY_AGENT_PORT:-52365}"
headers=()
if [[ -n "${RAY_AUTH_TOKEN:-}" ]]; then
    headers=(--header "Authorization: Bearer ${RAY_AUTH_TOKEN}")
fi
wget --quiet --timeout=5 --tries=1 --output-document=- "${headers[@]}" \
    "http://127.0.0.1:${port}/api/local_raylet_healthz" | grep --quiet success
