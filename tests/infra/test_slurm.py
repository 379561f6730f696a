"""The script for Slurm, with stand-ins for Slurm, Ray and the run: who is started, told, ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.infra.manifests import INFRA

pytestmark = pytest.mark.slow  # each starts the script, which waits in seconds

SCRIPT = INFRA / "slurm" / "run.sh"

SRUN = """
while [[ "$1" == --* ]]; do
    case "$1" in --nodelist=*) export NODE="${1#*=}" ;; esac
    shift
done
exec "$@"
"""
SCONTROL = """
case "$1" in
    show) tr "," "\\n" <<< "$3" ;;
    *) echo "$*" >> "$LOG/scontrol" ;;
esac
"""
HOSTNAME = """
case "$1" in
    --ip-address) echo "${OWN_NAME:-fe80::1 10.0.0.1}" ;;
    *) echo "10.0.0.1 172.17.0.1" ;;
esac
"""
RAY = """
if [[ "$1" == status ]]; then
    test -e "$LOG/ray-n1" && test ! -e "$LOG/slow"
    exit
fi
test "${#RAY_AUTH_TOKEN}" -eq 64 && test "$RAY_AUTH_MODE" == token
echo "$*" > "$LOG/ray-$NODE"
trap 'echo TERM >> "$LOG/ray-$NODE"; exit 0' TERM
while true; do sleep 0.1; done
"""
RUN = """
echo "$RAY_ADDRESS $*" > "$LOG/run"
trap 'sleep 0.5; echo rows >> "$LOG/run"; exit 130' TERM
test ! -e "$LOG/short" || exit "$(cat "$LOG/short")"
touch "$LOG/ready"
while true; do sleep 0.1; done
"""


def start(folder: Path, nodes: str = "n1,n2,n3") -> subprocess.Popen[str]:
    """Run the script in an allocation that does not exist."""
    (folder / "bin").mkdir()
    stand_ins = {"srun": SRUN, "scontrol": SCONTROL, "hostname": HOSTNAME, "ray": RAY}
    for name, text in {**stand_ins, "sencache-pipeline": RUN}.items():
        path = folder / "bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{text}")
        path.chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "LOG": str(folder),
        "SLURM_JOB_NODELIST": nodes,
        "SLURM_JOB_ID": "12345",
        "SLURM_CPUS_ON_NODE": "16",
        "READY_S": "60",
    }
    command = ["bash", str(SCRIPT), "--config", "my run.yaml", "--output", "out"]
    return subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def await_file(path: Path) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.05)


def cluster(folder: Path, *nodes: str) -> None:
    """All nodes have had their part of the cluster, and it is over."""
    for node in nodes:
        lines = (folder / f"ray-{node}").read_text().splitlines()
        role = "--head --block --node-ip-address=10.0.0.1 --port=22345 --include-dashboard=false"
        if node != "n1":
            role = "--block --address=10.0.0.1:22345"
        assert lines == [f"start {role} --num-cpus=16", "TERM"]


@pytest.mark.parametrize(
    ("number", "requeued"), [(signal.SIGUSR1, ["requeue 12345"]), (signal.SIGTERM, [])]
)
def test_a_run_that_is_stopped_writes_its_rows_before_its_cluster_ends(
    tmp_path: Path, number: signal.Signals, requeued: list[str]
) -> None:
    job = start(tmp_path)
    for name in ("ready", "ray-n2", "ray-n3"):
        await_file(tmp_path / name)
    job.send_signal(number)
    out, errors = job.communicate(timeout=60)
    assert job.returncode == 130, errors
    lines = (tmp_path / "run").read_text().splitlines()
    assert lines == ["10.0.0.1:22345 generate --config my run.yaml --output out", "rows"]
    cluster(tmp_path, "n1", "n2", "n3")
    told = tmp_path / "scontrol"
    assert (told.read_text().splitlines() if told.exists() else []) == requeued
    assert "the same command goes on" in errors
    assert out == ""


@pytest.mark.parametrize(
    ("number", "requeued"), [(signal.SIGUSR1, ["requeue 12345"]), (signal.SIGTERM, [])]
)
def test_no_run_starts_after_a_stop_while_the_head_starts(
    tmp_path: Path, number: signal.Signals, requeued: list[str]
) -> None:
    (tmp_path / "slow").touch()
    job = start(tmp_path)
    await_file(tmp_path / "ray-n1")
    job.send_signal(number)
    _, errors = job.communicate(timeout=30)
    assert job.returncode == 130, errors
    assert not (tmp_path / "run").exists()
    cluster(tmp_path, "n1")
    assert not (tmp_path / "ray-n2").exists()
    told = tmp_path / "scontrol"
    assert (told.read_text().splitlines() if told.exists() else []) == requeued


def test_the_head_has_an_address_that_other_nodes_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "short").write_text("0")
    monkeypatch.setenv("OWN_NAME", "127.0.1.1")  # what Debian writes into /etc/hosts
    job = start(tmp_path, nodes="n1")
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    cluster(tmp_path, "n1")


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_job_ends_as_its_run_does(tmp_path: Path, code: int) -> None:
    (tmp_path / "short").write_text(str(code))
    job = start(tmp_path, nodes="n1")
    _, errors = job.communicate(timeout=120)
    assert job.returncode == code, errors
    cluster(tmp_path, "n1")
    assert not (tmp_path / "scontrol").exists()


def test_sbatch_gives_the_run_more_time_to_end_than_ray_jobs_have() -> None:
    options = dict(re.findall(r"^#SBATCH --(\S+?)(?:=(\S+))?$", SCRIPT.read_text(), re.MULTILINE))
    receiver, seconds = options["signal"].split("@")
    assert receiver == "B:USR1"
    wait = re.search(r"STOP_WAIT_TIME_S: \"(\d+)\"", (INFRA / "runtime-env.yaml").read_text())
    assert wait
    assert int(seconds) > int(wait[1])
    assert {"requeue", "no-kill"} <= options.keys()
