#!/usr/bin/env bash
# Ends the run whose driver lives in this container and waits until it has written its finished rows:
# `preStop` of the head's pod. Only the driver gets the signal: its shell would end before it, and Ray
# kills what a job leaves behind. It ends with code 130, which KubeRay takes for a failure and tries
# again; after `ray job stop` it would take the run for complete.
set -euo pipefail
driver='^([^ ]*/)?python[0-9.]* (-m jobs\.generate|([^ ]*/)?(jobs/generate\.py|sencache-pipeline generate))( |$)'
pkill --signal TERM --full "${driver}" || exit 0 # no run
while pgrep --full "${driver}" > /dev/null; do
    sleep 1
done
