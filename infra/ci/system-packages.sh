#!/usr/bin/env bash
# Programs that the tests use and pip does not bring. Installs what is missing where it may (root
# with apt-get), and says what is still missing and how to get it, with exit code 1. Tests that need
# a missing program are skipped with that reason, or fail where REQUIRE_SYSTEM_TOOLS=1.
#
#   infra/ci/system-packages.sh            install, then say what is missing
#   infra/ci/system-packages.sh --check    only say what is missing
set -uo pipefail

# Debian's package of each program. Its kubectl is too old for the overlays of infra/kuberay.
declare -A package=(
    [chromium]=chromium [prometheus]=prometheus [promtool]=prometheus [unshare]=util-linux
)

missing() {
    for program in chromium kubectl prometheus promtool unshare; do
        command -v "${program}" > /dev/null || echo "${program}"
    done
}

if [[ "${1:-}" != --check && "${EUID}" -eq 0 ]] && command -v apt-get > /dev/null; then
    wanted=()
    for program in $(missing); do
        [[ -z "${package[${program}]:-}" ]] || wanted+=("${package[${program}]}")
    done
    if ((${#wanted[@]})); then
        apt-get update -qq \
            && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}"
    fi
fi

status=0
for program in $(missing); do
    status=1
    if [[ "${program}" == kubectl ]]; then
        echo "missing: kubectl 1.21 or newer (https://kubernetes.io/docs/tasks/tools/)"
    else
        echo "missing: ${program} (as root: infra/ci/system-packages.sh installs ${package[${program}]})"
    fi
done >&2
exit "${status}"
