"""Rewrites prompts on a cluster, by Ray Data: prompts in, rewritten prompts out, in order."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import ray

from pipeline.process import begin_actor
from pipeline.prompts.rewriting.rewriter import RewrittenPrompt, load_rewriter, rewrite_all


class RewriteActor:
    """Rewrites batches of prompts; one per CPU, or on a share of a GPU."""

    def __init__(self, rewriter: str) -> None:
        """Load the rewriter; called once per actor."""
        begin_actor()
        self._rewrite = load_rewriter(rewriter)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Map prompts to what became of them, with their places."""
        found = rewrite_all(self._rewrite, batch["prompt"].to_pylist())
        texts, errors = [each.prompt for each in found], [each.error for each in found]
        return pa.table({"place": batch["place"], "prompt": texts, "error": errors})


def rewrite_prompts(
    prompts: Sequence[str], rewriter: str, *, batch_rows: int, gpus: float = 0.0
) -> list[RewrittenPrompt]:
    """Rewrite prompts on the connected cluster.

    Args:
        prompts: Any number.
        rewriter: As `load_rewriter` takes it.
        batch_rows: Prompts that it gets at once.
        gpus: Share of a GPU that each actor holds; 0 for rewriters that run on CPUs.

    Returns:
        What became of each prompt, in order.
    """
    table = pa.table({"place": range(len(prompts)), "prompt": list(prompts)})
    dataset = ray.data.from_arrow(table).repartition(target_num_rows_per_block=batch_rows)
    most = max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
    dataset = dataset.map_batches(
        RewriteActor,
        fn_constructor_args=(rewriter,),
        batch_size=batch_rows,
        batch_format="pyarrow",
        num_cpus=1,
        num_gpus=gpus or None,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
    )
    found: dict[int, RewrittenPrompt] = {}
    for part in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in part.to_pylist():
            found[row["place"]] = RewrittenPrompt(row["prompt"], row["error"])
    return [found[place] for place in range(len(prompts))]
