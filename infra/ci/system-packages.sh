#!/usr/bin/env bash
# Programs that the tests use and pip does not bring. Installs what is missing where it may (root
# with apt-get) and says what is missing still, with exit code 1: tests that need it are then skipped
# with that reason, or fail where REQUIRE_SYSTEM_TOOLS=1.
set -uo pipefail

declare -A package=([chromium]=chromium [prometheus]=prometheus [promtool]=prometheus)
wanted=()
for program in "${!package[@]}"; do
    command -v "${program}" > /dev/null || wanted+=("${package[${program}]}")
done
if ((${#wanted[@]})) && [[ "${EUID}" -eq 0 ]] && command -v apt-get > /dev/null; then
    apt-get update -qq \
        && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}"
fi

missing=()
for program in "${!package[@]}" kubectl; do
    command -v "${program}" > /dev/null || missing+=("${program}")
done
if ((${#missing[@]})); then
    echo "missing: ${missing[*]} (install them with the system's package manager)" >&2
    exit 1
fi
