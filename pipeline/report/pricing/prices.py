"""The price of a GPU hour: a dated table of list prices, and prices that a person gives instead.

If several prices apply, the first in this order counts: `run:ID=`, `label:KEY=VALUE=`,
`device:TEXT=`, a price for everything, the price in the run's own configuration, the table (only if
a cloud is chosen: there is no default vendor). If none applies, no money is shown.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pipeline.errors import UserError
from pipeline.storage.storage import locate

Market = Literal["on-demand", "spot"]
TABLE = Path(__file__).with_name("prices.yaml")
_FORMS = "DOLLARS, run:ID=DOLLARS, label:KEY=VALUE=DOLLARS or device:TEXT=DOLLARS"


class ListPrice(BaseModel):
    """One line of the price table, in dollars per GPU-hour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cloud: str
    product: str
    gpu: str
    on_demand: float | None
    spot: float | None
    date: datetime.date
    source: str


@dataclass(frozen=True, slots=True)
class Price:
    """A price in dollars per GPU-hour, and its source."""

    dollars: float
    source: str


@dataclass(frozen=True)
class Prices:
    """Looks up the price of a device.

    Attributes:
        given: Dollars per GPU-hour by `run:ID`, `label:KEY=VALUE`, `device:TEXT` or "".
        of_runs: Prices in the runs' own configurations, by run id.
        table: List prices of one cloud.
        market: Which of the list prices to use.
    """

    given: Mapping[str, float] = field(default_factory=dict)
    of_runs: Mapping[str, float] = field(default_factory=dict)
    table: Sequence[ListPrice] = ()
    market: Market = "on-demand"

    def find(self, run_id: str, labels: str, device_name: str) -> Price | None:
        """Return the price of a run's device on a node with labels (`k=v,k=v`), None if unknown."""
        for key in [f"run:{run_id}", *(f"label:{label}" for label in labels.split(",") if label)]:
            if key in self.given:
                return Price(self.given[key], f"--price {key}={self.given[key]:g}")
        for key, dollars in self.given.items():
            if key.startswith("device:") and key[7:].lower() in device_name.lower():
                return Price(dollars, f"--price {key}={dollars:g}")
        if "" in self.given:
            return Price(self.given[""], f"--price {self.given['']:g}")
        if run_id in self.of_runs:
            return Price(self.of_runs[run_id], "gpu_price_per_hour of the run")
        return self._listed(device_name)

    def _listed(self, device_name: str) -> Price | None:
        words = device_name.lower()
        for line in self.table:
            dollars = line.on_demand if self.market == "on-demand" else line.spot
            if dollars is not None and all(w in words for w in line.gpu.lower().split()):
                text = f"{line.cloud} {line.product}, {self.market}, {line.date}: {line.source}"
                return Price(dollars, text)
        return None


def parse_prices(texts: Sequence[str]) -> dict[str, float]:
    """Read `--price` flags.

    Raises:
        UserError: A flag has none of the known forms.
    """
    given: dict[str, float] = {}
    for text in texts:
        key, _, number = text.rpartition("=")
        try:
            dollars = float(number)
        except ValueError:
            dollars = -1.0
        kind = key.partition(":")
        known = not key or (kind[0] in ("run", "label", "device") and kind[2])
        if not known or not 0 <= dollars < 1e6 or (kind[0] == "label" and "=" not in kind[2]):
            raise UserError(f"--price {text}: should be {_FORMS}, e.g. --price 2.49")
        given[key] = dollars
    return given


def load_table(cloud: str, path: str = "") -> list[ListPrice]:
    """Read the list prices of one cloud.

    Args:
        cloud: Name of the cloud in the table; "" for none.
        path: A file of the same form, instead of `prices.yaml`.

    Raises:
        UserError: There is no such cloud, or the file has another form.
        StorageError: The file cannot be read.
    """
    if not cloud:
        return []
    lines = read_table(path)
    found = [line for line in lines if line.cloud == cloud.lower()]
    if not found:
        known = ", ".join(sorted({line.cloud for line in lines}))
        raise UserError(f"--cloud {cloud}: the price table knows {known}")
    return found


def read_table(path: str = "") -> list[ListPrice]:
    """Read the list prices of all clouds.

    Args:
        path: A file of the same form, instead of `prices.yaml`.

    Raises:
        UserError: The file has another form.
        StorageError: The file cannot be read.
    """
    where = path or str(TABLE)
    storage, name = locate(where)
    try:
        content = yaml.safe_load(storage.read_bytes(name))
        return TypeAdapter(list[ListPrice]).validate_python(content)
    except (ValidationError, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{where}: not a price table like prices.yaml: {first}") from None
