"""Plots quality against evaluations, one panel per sampler and reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import UserError

REFERENCES = ("uncached", "converged")


def require_matplotlib() -> Any:
    """Import matplotlib for use without a display.

    Raises:
        UserError: It is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise UserError(
            "--plot needs matplotlib: pip install 'sencache-pipeline[quality]', or leave it out"
        ) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def draw(result: Mapping[str, Any], path: str) -> None:
    """Draw all samplers of a result into one picture.

    Raises:
        UserError: matplotlib is not installed.
    """
    pyplot = require_matplotlib()
    samplers = result["samplers"]
    figure, axes = pyplot.subplots(
        len(samplers), 2, figsize=(13, 5 * len(samplers)), squeeze=False, layout="constrained"
    )
    colours: dict[str, Any] = {}
    for row, (sampler, measured) in zip(axes, samplers.items(), strict=True):
        for axis, reference in zip(row, REFERENCES, strict=True):
            for name, curve in curves(measured, reference).items():
                colour = colours.setdefault(name, f"C{len(colours) % 10}")
                style = "-" if len(colours) <= 10 or list(colours).index(name) < 10 else "--"
                nfe, mean, low, high = zip(*curve, strict=True)
                axis.plot(nfe, mean, style, marker="o", markersize=4, color=colour, label=name)
                axis.fill_between(nfe, low, high, color=colour, alpha=0.08, linewidth=0)
            own = measured["uncached"]["to"].get(reference)
            if own:
                axis.axhline(
                    own["psnr"]["mean"], color="black", linestyle=":", label="uncached run"
                )
            axis.set_title(f"{sampler.partition('/')[0]}: against the {reference} run")
            axis.set_xlabel("network evaluations per clip")
            axis.set_ylabel("PSNR, dB")
            axis.grid(alpha=0.3)
        row[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def curves(
    measured: Mapping[str, Any], reference: str
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Return the points of each arm (NFE, mean PSNR, low, high), by rising NFE."""
    made: dict[str, list[tuple[float, float, float, float]]] = {}
    for arm in measured["arms"]:
        numbers = arm.get("to", {}).get(reference, {}).get("psnr")
        if numbers:
            point = (arm["nfe_mean"], numbers["mean"], numbers["low"], numbers["high"])
            made.setdefault(arm["arm"], []).append(point)
    return {name: sorted(points) for name, points in made.items()}
