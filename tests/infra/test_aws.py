"""The cluster launcher's file, against the schema that ships with Ray."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from tests.infra.manifests import INFRA

SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
CLUSTER = yaml.safe_load((INFRA / "aws" / "cluster.yaml").read_text())
NODES: dict[str, Any] = CLUSTER["available_node_types"]
WORKERS = [name for name in NODES if name != CLUSTER["head_node_type"]]


def test_it_fits_rays_schema() -> None:
    jsonschema.validate(CLUSTER, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(CLUSTER | {"idle_minutes": 10}, SCHEMA)


def test_the_launcher_takes_it() -> None:
    """Ray's own checks beyond the schema, without asking the cloud."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(json.loads(json.dumps(CLUSTER)))
    validate_config(prepared)
    assert prepared["available_node_types"]["head"]["resources"] == {"CPU": 0}


def test_the_head_is_on_demand_and_takes_no_work() -> None:
    head = NODES[CLUSTER["head_node_type"]]
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"] == {"CPU": 0}
    assert any("--num-cpus=0" in line for line in CLUSTER["head_start_ray_commands"])


@pytest.mark.parametrize("name", WORKERS)
def test_gpu_nodes_are_spot_and_go_when_idle(name: str) -> None:
    node = NODES[name]
    assert node["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert node["min_workers"] == 0 < node["max_workers"] <= CLUSTER["max_workers"]
    assert node["resources"]["GPU"] == int(name.removeprefix("gpu-"))
    assert CLUSTER["idle_timeout_minutes"] <= 15


def test_nodes_have_roles_and_no_keys() -> None:
    for node in NODES.values():
        config = node["node_config"]
        assert config["IamInstanceProfile"]["Arn"].startswith("arn:aws:iam::")
        assert config["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in config["BlockDeviceMappings"])
    text = json.dumps(CLUSTER)
    assert "AWS_SECRET_ACCESS_KEY" not in text
    assert "AWS_ACCESS_KEY_ID" not in text


def test_authentication_is_on_and_weights_go_to_the_nodes_own_disk() -> None:
    options = CLUSTER["docker"]["run_options"]
    assert "--env RAY_AUTH_MODE=token" in options
    assert "~/.ray/auth_token" in CLUSTER["file_mounts"]
    assert any(option.endswith(":/cache") for option in options)
    assert any(option.startswith("--shm-size") for option in options)
    assert "--env RAY_worker_niceness=0" in options


def test_folders_of_the_host_that_a_container_writes_are_made_for_its_user() -> None:
    hosts = [
        option.removeprefix("--volume ").partition(":")[0]
        for option in CLUSTER["docker"]["run_options"]
        if option.startswith("--volume ")
    ]
    made = [shlex.split(line) for line in CLUSTER["initialization_commands"]]
    (install,) = [words for words in made if words[:3] == ["sudo", "install", "-d"]]
    assert install[3:7] == ["-o", "1000", "-g", "100"]  # `ray` of the image
    assert set(install[7:]) == set(hosts)
    assert "/tmp/ray" in hosts  # where infra/monitoring/prometheus.yml reads the nodes
