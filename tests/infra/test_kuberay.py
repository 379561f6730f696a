"""Every overlay, as `kubectl apply -k` would send it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ray._private.utils import resolve_object_store_memory

from pipeline.config.run_config import RunConfig, load_config
from tests.infra.manifests import (
    INFRA,
    OVERLAYS,
    REPOSITORY,
    Manifest,
    constraints,
    flags,
    generate_flags,
    of_kind,
    rendered,
)
from tests.infra.rayjob import RayJob

KUBERNETES = "1.31"  # the oldest that the manifests are meant for
OF_KUBERNETES = {"ConfigMap", "NetworkPolicy", "ServiceAccount"}
OF_OPERATORS = {"RayJob", "PodMonitor", "ClusterQueue", "LocalQueue", "ResourceFlavor"}
IMAGE_ROOT = "/home/ray/sencache-pipeline/"

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


def cluster(overlay: str) -> Any:
    return of_kind(overlay, "RayJob")["spec"]["rayClusterSpec"]


def pods(overlay: str) -> list[Manifest]:
    """Templates of head and workers, as the pods that they become."""
    spec = cluster(overlay)
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [
        {"apiVersion": "v1", "kind": "Pod", **group["template"]}
        | {"metadata": {"name": "pod", **group["template"].get("metadata", {})}}
        for group in groups
    ]


def run_config(overlay: str, tmp_path: Path) -> RunConfig:
    (tmp_path / "run.yaml").write_text(of_kind(overlay, "ConfigMap")["data"]["run.yaml"])
    return load_config(["--config", str(tmp_path / "run.yaml")])


def test_what_is_kubernetes_own_fits_its_schema(overlay: str) -> None:
    kinds = {manifest["kind"] for manifest in rendered(overlay)}
    assert kinds <= OF_KUBERNETES | OF_OPERATORS
    assert kinds >= OF_KUBERNETES
    own = [manifest for manifest in rendered(overlay) if manifest["kind"] in OF_KUBERNETES]
    for manifest in [*own, *pods(overlay)]:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_a_mistake_in_a_pod_is_found(overlay: str) -> None:
    pod = pods(overlay)[0]
    wrong = pod | {"spec": {**pod["spec"], "terminationGracePeriod": 90}}
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_the_ray_job_fits_its_strict_types(overlay: str) -> None:
    RayJob.model_validate(of_kind(overlay, "RayJob"))


def test_the_entrypoint_is_a_command_line_of_generate(overlay: str, tmp_path: Path) -> None:
    entrypoint = of_kind(overlay, "RayJob")["spec"]["entrypoint"]
    assert entrypoint.startswith("python -m jobs.generate ")
    assert flags(entrypoint) <= generate_flags()
    (path,) = re.findall(r"--config (\S+)", entrypoint)
    (head, *_) = pods(overlay)
    mounts = {m["name"]: m["mountPath"] for m in head["spec"]["containers"][0]["volumeMounts"]}
    assert path == f"{mounts['run']}/run.yaml"
    config = run_config(overlay, tmp_path)
    if config.prompts.startswith(IMAGE_ROOT):
        assert (REPOSITORY / config.prompts.removeprefix(IMAGE_ROOT)).is_file()
    assert config.output.startswith("s3://")  # a pod's own disk is gone with it


def test_a_worker_pod_is_one_group(overlay: str, tmp_path: Path) -> None:
    config = run_config(overlay, tmp_path)
    (group,) = cluster(overlay)["workerGroupSpecs"]
    resources = group["template"]["spec"]["containers"][0]["resources"]
    gpus = {kind: int(each.get("nvidia.com/gpu", 0)) for kind, each in resources.items()}
    wanted = config.parallel.degree if config.device == "cuda" else 0
    assert set(gpus.values()) == {wanted}


def test_versions_are_those_of_the_lock_file(overlay: str) -> None:
    assert cluster(overlay)["rayVersion"] == constraints()["ray"]


def test_the_head_outlives_the_drain_and_takes_no_work(overlay: str) -> None:
    job = of_kind(overlay, "RayJob")["spec"]
    stated = yaml.safe_load((INFRA / "runtime-env.yaml").read_text())
    assert yaml.safe_load(job["runtimeEnvYAML"]) == stated
    (head, *_) = pods(overlay)
    wait_s = int(stated["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"])
    assert head["spec"]["terminationGracePeriodSeconds"] > wait_s
    assert cluster(overlay)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    hook = head["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert hook == [f"{IMAGE_ROOT}infra/docker/drain.sh"]  # of which tests/infra/test_drain.py


def test_no_process_of_ray_yields_to_others(overlay: str) -> None:
    for pod in pods(overlay):
        (container,) = pod["spec"]["containers"]
        assert {"name": "RAY_worker_niceness", "value": "0"} in container["env"]


def test_ray_keeps_its_objects_in_memory(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for pod in pods(overlay):
        (shm,) = [v["emptyDir"] for v in pod["spec"]["volumes"] if v["name"] == "shm"]
        memory = pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
        monkeypatch.setattr(
            "ray._private.utils.get_shared_memory_bytes",
            lambda shm=shm: gibibytes(shm["sizeLimit"]),
        )
        assert shm["medium"] == "Memory"
        # Ray's own choice; more than /dev/shm holds would go to the disk of /tmp.
        assert resolve_object_store_memory(gibibytes(memory)) <= gibibytes(shm["sizeLimit"])


def gibibytes(quantity: str) -> int:
    return int(quantity.removesuffix("Gi")) << 30


def test_pods_have_an_identity_and_no_secrets_or_rights(overlay: str) -> None:
    account = of_kind(overlay, "ServiceAccount")["metadata"]
    assert "eks.amazonaws.com/role-arn" in account["annotations"]
    assert cluster(overlay)["authOptions"] == {"mode": "token"}
    selector = of_kind(overlay, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    for pod in pods(overlay):
        spec = pod["spec"]
        assert spec["serviceAccountName"] == account["name"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert selector.items() <= pod["metadata"]["labels"].items()
        (container,) = spec["containers"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["image"].startswith("sencache-pipeline:")
        for variable in container["env"]:
            if re.search("KEY|TOKEN|SECRET|PASSWORD", variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"]


def test_only_spot_proof_work_runs_on_spot_nodes(overlay: str) -> None:
    head, *workers = pods(overlay)
    assert "affinity" in head["spec"]
    assert "tolerations" not in head["spec"]
    for worker in workers:
        keys = {toleration["key"] for toleration in worker["spec"]["tolerations"]}
        assert {"nvidia.com/gpu", "cloud.google.com/gke-spot"} <= keys


def test_gpu_nodes_go_when_there_is_nothing_to_do(overlay: str) -> None:
    spec = cluster(overlay)
    (group,) = spec["workerGroupSpecs"]
    if group["groupName"] == "gpu" and spec["enableInTreeAutoscaling"]:
        assert group["minReplicas"] == 0
    queued = "kueue.x-k8s.io/queue-name" in of_kind(overlay, "RayJob")["metadata"].get("labels", {})
    assert queued == bool(of_kind(overlay, "RayJob")["spec"].get("suspend"))
    assert queued != spec["enableInTreeAutoscaling"]
