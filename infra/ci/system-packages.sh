#!/usr/bin/env bash
# Programs that the tests use and pip does not bring. Installs what is missing where it may (root
# with apt-get), else says what is missing; tests that need it are then skipped with that reason,
# or fail where REQUIRE_SYSTEM_TOOLS=1.
set -euo pipefail

declare -A package=([chromium]=chromium [prometheus]=prometheus [promtool]=prometheus)
missing=()
for program in "${!package[@]}"; do
    command -v "${program}" > /dev/null || missing+=("${package[${program}]}")
done
if ((${#missing[@]})); then
    if [[ "${EUID}" -eq 0 ]] && command -v apt-get > /dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "missing: ${missing[*]} (install them with the system's package manager)" >&2
    fi
fi
command -v kubectl > /dev/null || echo "missing: kubectl (tests of the overlays need it)" >&2
