"""What the network policy lets through, as Kubernetes decides it, and nothing else."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.infra.manifests import Manifest, of_kind

POLICY = of_kind("one-node", "NetworkPolicy")["spec"]
OWN = {"app.kubernetes.io/part-of": "sencache"}
INSIDE = "10.0.0.7"


@dataclass(frozen=True)
class Peer:
    """Who is at the other end.

    Attributes:
        labels: Of its pod; None for what is no pod.
        namespace: "" for the namespace of the run.
        address: Of its network interface.
    """

    labels: dict[str, str] | None = field(default_factory=dict)
    namespace: str = ""
    address: str = INSIDE


RAY = Peer(OWN)
SUBMITTER = Peer(
    {"ray.io/originated-from-crd": "RayJob", "ray.io/originated-from-cr-name": "sencache"}
)
OTHER_SUBMITTER = Peer(SUBMITTER.labels | {"ray.io/originated-from-cr-name": "x"})  # type: ignore[operator]
OPERATOR_OF_HELM = Peer(
    {
        "app.kubernetes.io/name": "kuberay-operator",
        "app.kubernetes.io/component": "kuberay-operator",
    },
    "kuberay",
)
OPERATOR_OF_KUSTOMIZE = Peer(
    {"app.kubernetes.io/name": "kuberay", "app.kubernetes.io/component": "kuberay-operator"},
    "ray-system",
)
PROMETHEUS = Peer({"app.kubernetes.io/name": "prometheus"}, "monitoring")
STRANGER = Peer({"app": "web"})
DNS = Peer({"k8s-app": "kube-dns"}, "kube-system")
WORLD = Peer(None, address="52.216.0.1")
ROLE = Peer(None, address="169.254.169.254")

ALLOWED = [
    ("Ingress", RAY, "TCP", 6379),
    ("Ingress", RAY, "TCP", 10002),
    ("Ingress", SUBMITTER, "TCP", 8265),
    ("Ingress", OPERATOR_OF_HELM, "TCP", 8265),
    ("Ingress", OPERATOR_OF_KUSTOMIZE, "TCP", 8265),
    ("Ingress", PROMETHEUS, "TCP", 8080),
    ("Egress", RAY, "TCP", 6379),
    ("Egress", DNS, "UDP", 53),
    ("Egress", DNS, "TCP", 53),
    ("Egress", WORLD, "TCP", 443),  # the store, the Hub
    ("Egress", WORLD, "TCP", 6443),  # the API server, for the autoscaler
    ("Egress", ROLE, "TCP", 80),  # the pod's identity
]
REFUSED = [
    ("Ingress", STRANGER, "TCP", 8265),
    ("Ingress", STRANGER, "TCP", 8080),
    ("Ingress", WORLD, "TCP", 8265),
    ("Ingress", OTHER_SUBMITTER, "TCP", 8265),
    ("Ingress", SUBMITTER, "TCP", 6379),
    ("Ingress", SUBMITTER, "TCP", 10001),
    ("Ingress", OPERATOR_OF_HELM, "TCP", 6379),
    ("Ingress", PROMETHEUS, "TCP", 8265),
    ("Ingress", Peer(OWN, "elsewhere"), "TCP", 6379),  # the same label in another namespace
    ("Egress", WORLD, "TCP", 80),
    ("Egress", WORLD, "TCP", 22),
    ("Egress", STRANGER, "TCP", 5432),
    ("Egress", Peer({}, "monitoring"), "UDP", 53),
]


def name(case: Any) -> str:
    return f"{case[0]} {case[1].labels or case[1].address} {case[2]} {case[3]}"


@pytest.mark.parametrize("case", ALLOWED, ids=name)
def test_what_a_run_needs_comes_through(case: tuple[str, Peer, str, int]) -> None:
    assert allowed(*case)


@pytest.mark.parametrize("case", REFUSED, ids=name)
def test_nothing_else_does(case: tuple[str, Peer, str, int]) -> None:
    assert not allowed(*case)


def test_it_covers_both_directions() -> None:
    assert set(POLICY["policyTypes"]) == {"Ingress", "Egress"}


def allowed(direction: str, peer: Peer, protocol: str, port: int) -> bool:
    """The rules of a NetworkPolicy: one rule that fits is enough; what a rule leaves out fits."""
    side = {"Ingress": "from", "Egress": "to"}[direction]
    return any(
        (side not in rule or any(fits(peer, each) for each in rule[side]))
        and (
            "ports" not in rule
            or any(each["protocol"] == protocol and each["port"] == port for each in rule["ports"])
        )
        for rule in POLICY[direction.lower()]
    )


def fits(peer: Peer, selector: Manifest) -> bool:
    if "ipBlock" in selector:
        return ipaddress.ip_address(peer.address) in ipaddress.ip_network(
            selector["ipBlock"]["cidr"]
        )
    if peer.labels is None:
        return False
    if "namespaceSelector" in selector:
        of_namespace = {"kubernetes.io/metadata.name": peer.namespace or "default"}
        if not chosen(selector["namespaceSelector"], of_namespace):
            return False
    elif peer.namespace:
        return False
    return chosen(selector.get("podSelector", {}), peer.labels)


def chosen(selector: Manifest, labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()
