"""Print alerts.yaml as a PrometheusRule of the Prometheus operator."""

import sys
from pathlib import Path

import yaml


def main() -> None:
    """Print it."""
    rules = yaml.safe_load(Path(__file__).with_name("alerts.yaml").read_text())
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "sencache"},
        "spec": rules,
    }
    yaml.safe_dump(resource, sys.stdout, sort_keys=False)


if __name__ == "__main__":
    main()
