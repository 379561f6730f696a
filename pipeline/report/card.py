"""The dataset card: README.md and the index that `datasets` and the Hub read.

With the index (`pipeline.export.index`) `load_dataset(prefix)` gives a Video column whose paths
resolve. All numbers of the card are those of report.json.
"""

from __future__ import annotations

import re

import yaml

from pipeline.export.index import content_name, write_index
from pipeline.monitoring.progress import duration
from pipeline.prefix.first_card import CARD_KEY, MARK, index_config, is_marked
from pipeline.redaction import shown
from pipeline.report import text
from pipeline.report.document import Report, Totals
from pipeline.report.rows import Mask, Rows
from pipeline.report.tables.clip_kinds import mixed
from pipeline.storage.storage import Storage
from pipeline.wording import TO_DECODE, counted

_SPECIAL = re.compile(
    r"(?P<link>[^\s`|<>&\\*_\[\]~$]*(?:://|www\.|@)[^\s`|<>&\\*\[\]~$]*)"
    r"|[\\`*\[\]|<~$]|&(?=[#\w])|(?<![^\W_])_|_(?![^\W_])"
)
"""What would be a link, and the signs that begin or end markup. A `_` within a word is none."""

_ENTITIES = {"<": "&lt;", "&": "&amp;", "\\": "&#92;"}
"""Signs that a backslash does not protect in every renderer."""

_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
_SIZE_NAMES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "n>100M")


def write_clip_index(storage: Storage, rows: Rows, clips: Mask) -> str:
    """Write the index of the dataset's clips, and return its SHA-256.

    Args:
        storage: The output prefix.
        rows: The rows of the prefix.
        clips: Mask of the rows that are clips of the dataset.

    Raises:
        StorageError: It cannot be written.
    """
    parts, at = (rows.table[name].to_numpy()[clips] for name in ("part", "at"))
    return write_index(storage, rows.files, parts, at)


def write_card(storage: Storage, report: Report, index: str) -> bool:
    """Write the card, unless a person has removed its mark.

    Args:
        storage: The output prefix.
        report: The numbers of the prefix.
        index: SHA-256 of its index.

    Returns:
        Whether it was written.

    Raises:
        StorageError: It cannot be written.
    """
    if storage.exists(CARD_KEY) and not is_marked(storage):
        return False
    storage.put_bytes(CARD_KEY, card_text(report, content_name([storage.uri, index])).encode())
    return True


def plain(value: str) -> str:
    """Text of a row as one line of Markdown that is neither markup nor HTML nor a link.

    The text comes from whoever wrote the prompts, so all of it is shown as it is. It stays readable
    without a renderer too: what would be a link becomes code, which nothing makes a link of.
    """
    return _SPECIAL.sub(_harmless, " ".join(shown(value).split()))


def _harmless(found: re.Match[str]) -> str:
    sign = found[0]
    if found["link"]:
        return f"`{sign}`"
    return _ENTITIES.get(sign) or f"\\{sign}"


def card_text(report: Report, content: str = "") -> str:
    """Return the card of a dataset as Markdown.

    Args:
        report: The numbers of the dataset.
        content: Stands for what the dataset holds (`content_name`).
    """
    totals, head = report.totals, report.headline
    models = sorted({" ".join(shown(entry.key).split()) for entry in report.cost_by_model})
    size = next((n for n, most in zip(_SIZE_NAMES, _SIZES, strict=False) if totals.ok < most), "")
    front = {
        "pretty_name": f"Synthetic clips of {', '.join(models)}" if models else "Synthetic clips",
        "task_categories": ["text-to-video"],
        "size_categories": [size or _SIZE_NAMES[-1]],
        "tags": ["synthetic", "video", *models],
        "configs": [index_config(content)],
    }
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).strip(),
        "---",
        MARK,
        f"# {plain(str(front['pretty_name']))}",
        "",
        "Made by a text-to-video model from captions. Every clip's row says model, seed, sampler "
        "settings, cache decisions and cost.",
        "",
        "| | |",
        "|---|---|",
        f"| clips | {text.count(totals.ok)}, {duration(totals.video_s)} of video, "
        f"{text.size(totals.media_bytes)} |",
        *_tensors(totals),
        f"| left out | {text.count(totals.failed)} failed, "
        f"{counted(totals.rejected, 'rejected prompt', grouped=True)}, "
        f"{counted(totals.controls, 'control', grouped=True)} |",
    ]
    if len(report.settings) > 1:
        lines.append(f"| mixed settings | {plain(mixed(report.settings))} |")
    if report.kept:
        lines.append(f"| kept columns | {plain(text.kept(report.kept))} |")
    lines += _good_clips(report)
    lines += _recaptions(report)
    if head.reuse_ratio is not None:
        lines.append(
            f"| caching | {text.percent(head.reuse_ratio)} of sampler steps reused, "
            f"{head.nfe_mean or 0:.1f} network evaluations a clip |"
        )
    if report.speedup.ratio:
        lines.append(
            f"| speed-up | {text.estimate(report.speedup.ratio, 'x')} over "
            f"{counted(report.speedup.pairs, 'pair')} with uncached controls. "
            f"{report.speedup.note} |"
        )
    lines += [
        f"| {plain(text.compared(entry))} | PSNR to the control "
        f"{text.estimate(entry.psnr_db, ' dB')}, worst {entry.psnr_worst:.1f} dB, "
        f"{counted(entry.pairs, 'pair')}. {entry.note} |"
        for entry in report.quality
    ]
    if head.gpu_s_per_clip is not None:
        cost = f", {text.dollars(head.dollars_per_clip)}" if report.dollars else ""
        lines.append(f"| cost of a clip | {head.gpu_s_per_clip:.2f} s of device time{cost} |")
    lines += [
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'clips = load_dataset("PATH", split="train")  # clips[0]["video"], clips[0]["caption"]',
        "```",
        "",
        TO_DECODE,
        "",
        "All rows, also of failed samples and controls: `data/*.parquet`. Numbers: "
        "`report/report.json`, shown by `report/index.html`.",
        "",
    ]
    return "\n".join(lines)


def _tensors(totals: Totals) -> list[str]:
    """The line about tensors; none where no clip has any."""
    if not totals.tensor_clips:
        return []
    return [
        f"| for trainers | tensors of {counted(totals.tensor_clips, 'clip', grouped=True)}, "
        f"{text.size(totals.tensor_bytes)}; column `tensors` |"
    ]


def _good_clips(report: Report) -> list[str]:
    found = report.good_clips
    if found is None:
        return []
    lines = []
    if found.scorers:
        each = ", ".join(
            f"{plain(one.scorer)} ({counted(one.clips, 'clip', grouped=True)})"
            for one in found.scorers
        )
        lines.append(f"| scores | by {each}; columns `scores` and `scorers` of the rows |")
    if found.good + found.not_good:
        share = f" ({text.percent(found.share.value)})" if found.share else ""
        by = f": {plain(found.condition)}" if found.condition else ""
        lines.append(
            f"| good clips | {text.count(found.good)} of "
            f"{text.count(found.good + found.not_good)} judged{share}{by} |"
        )
    if found.cost is not None:
        cost = f", {text.dollars(found.cost.dollars)}" if found.cost.dollars is not None else ""
        lines.append(
            f"| cost of a good clip | {found.cost.device_s:.2f} s of device time{cost}, with all "
            "that was spent |"
        )
    return lines


def _recaptions(report: Report) -> list[str]:
    found = report.recaptions
    if found is None or not found.captioners:
        return []
    each = ", ".join(
        f"{plain(one.captioner)} ({counted(one.clips, 'clip', grouped=True)})"
        for one in found.captioners
    )
    rest = f"; {counted(found.without, 'clip', grouped=True)} without" if found.without else ""
    return [f"| new captions | by {each}{rest}. They are in `recaption`; `caption` is the prompt |"]
