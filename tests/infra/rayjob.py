"""Strict types of the RayJob fields that the manifests use; unknown fields are refused.

Written from the API reference of KubeRay 1.7 (`ray.io/v1`); tests/infra/crds.py holds them to its
definition. Pod templates are checked apart, against the schema of Kubernetes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Metadata(Strict):
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,45}[a-z0-9])?$")]
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class AuthOptions(Strict):
    mode: Literal["token", "disabled"]
    secret_name: str = ""


class AutoscalerOptions(Strict):
    version: Literal["v1", "v2"]
    idle_timeout_seconds: Natural
    upscaling_mode: Literal["Default", "Aggressive", "Conservative"]
    resources: dict[str, dict[str, str]]


class HeadGroup(Strict):
    ray_start_params: dict[str, str]
    template: dict[str, Any]


class WorkerGroup(Strict):
    group_name: str
    replicas: Natural
    min_replicas: Natural
    max_replicas: Positive
    ray_start_params: dict[str, str]
    template: dict[str, Any]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        assert self.min_replicas <= self.replicas <= self.max_replicas
        return self


class RayCluster(Strict):
    ray_version: str
    auth_options: AuthOptions
    enable_in_tree_autoscaling: bool
    autoscaler_options: AutoscalerOptions | None = None
    head_group_spec: HeadGroup
    worker_group_specs: list[WorkerGroup]

    @model_validator(mode="after")
    def _scaled_by_somebody(self) -> Self:
        assert self.enable_in_tree_autoscaling == (self.autoscaler_options is not None)
        return self


class SubmitterConfig(Strict):
    backoff_limit: Natural


class Spec(Strict):
    entrypoint: str
    runtime_env_yaml: Annotated[str, Field(alias="runtimeEnvYAML")]
    submission_mode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]
    submitter_config: SubmitterConfig
    backoff_limit: Natural
    active_deadline_seconds: Positive
    shutdown_after_job_finishes: bool
    ttl_seconds_after_finished: Natural
    suspend: bool = False
    ray_cluster_spec: RayCluster

    @model_validator(mode="after")
    def _accepted_by_the_operator(self) -> Self:
        # Its own rules beyond the schema.
        assert self.shutdown_after_job_finishes or not self.ttl_seconds_after_finished
        assert self.shutdown_after_job_finishes or not self.suspend
        return self


class RayJob(Strict):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: Spec
