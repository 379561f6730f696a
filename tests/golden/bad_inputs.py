"""What the project says to bad input: exit code and stderr of jobs, and the reasons of bad rows.

Every job runs within this process and ends before it takes a device.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from tests.golden import names
from tests.golden.bad_cases import JOB_CASES, Values
from tests.golden.bad_files import ROW_CASES, files, parquet_rows
from tests.golden.materials import Materials

COMMANDS = {"calibrate", "report", "export", "benchmark"}


def messages(folder: Path) -> dict[str, Any]:
    """Exit code and stderr of every bad command line, and what becomes of every bad row."""
    materials = Materials(folder)
    values = {"folder": str(folder), "adapter": materials.adapter} | _profiles(materials)
    files(folder)
    names.write_dataset(folder / "made", [names.output_row(0), names.output_row(1)])
    found = {f"job/{name}": _run(argv, values) for name, argv in JOB_CASES.items()}
    return found | _rows(materials, values)


def _profiles(materials: Materials) -> dict[str, str]:
    """Paths of profiles that fit some models and not others."""
    found = {
        family: materials.profile(name, names.MODELS[name].revision)
        for family, name in (("wan", "wan2.1-t2v-1.3b"), ("cogvideox", "cogvideox-5b"))
    }
    path = materials.folder / "driftless.json"
    path.write_text(dataclasses.replace(names.shipped_profile(), drift=None).to_json())
    return found | {"driftless": str(path)}


def _run(argv: Sequence[str], values: Values) -> dict[str, Any]:
    """The result of `[job,] flag, ...`; a job that is not named is `generate`."""
    given = [word.format(**values) for word in argv]
    job = given.pop(0) if given and given[0] in COMMANDS else "generate"
    if job == "generate" and "bare" not in given:
        for name, value in (("--prompts", "p.txt"), ("--output", "out")):
            if not any(word.partition("=")[0] == name for word in given):
                given += [name, f"{values['folder']}/{value}"]
    given = [word for word in given if word != "bare"]
    with _streams() as (out, err), mock.patch.object(sys, "argv", [f"{job}.py", *given]):
        try:
            code: Any = names.JOBS[job](given)
        except SystemExit as stop:
            code = stop.code
    text = err.getvalue()
    lines = [line.rstrip() for line in text.replace(values["folder"], "{folder}").splitlines()]
    return {"exit code": code, "stderr": lines, "said on stdout": bool(out.getvalue().strip())}


@contextlib.contextmanager
def _streams() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Capture stdout and stderr, to which log messages go whatever a test runner does with them."""
    out, err = io.StringIO(), io.StringIO()
    root, handler = logging.getLogger(), logging.StreamHandler(err)
    handler.setLevel(logging.WARNING)
    kept, root.handlers = root.handlers, [handler]
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.dict(os.environ, {"COLUMNS": "100"}),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield out, err
    finally:
        root.handlers = kept


def _rows(materials: Materials, values: Values) -> dict[str, Any]:
    """What becomes of bad rows: of each file the rejected rows and the count of good ones."""
    folder, found = materials.folder, {}
    for name, line in ROW_CASES.items():
        path = folder / "row.jsonl"
        path.write_text(f'{{"prompt": "before"}}\n{line}\n')
        found[f"row/{name}"] = _taken(path, "demo", materials, values)
    for name, path in parquet_rows(folder).items():
        found[f"row/{name}"] = _taken(path, "demo", materials, values)
    images = ['{"prompt": "a"}', '{"prompt": "a", "image": 5}', '{"prompt": "a", "image": ""}']
    images += [f'{{"prompt": "a", "image": "{folder}/{name}"}}' for name in ("nope.png", "p.txt")]
    images += [f'{{"prompt": "a", "num_frames": 1, "image": "{materials.image}"}}']
    for number, line in enumerate(images):
        path = folder / "row.jsonl"
        path.write_text(line + "\n")
        found[f"row/image-{number}"] = _taken(path, "ltx-video-i2v", materials, values)
    return found


def _taken(path: Path, model: str, materials: Materials, values: Values) -> dict[str, Any]:
    settings = names.load_settings(
        ["--prompts=p", "--output=o", f"--model={model}", "--cache.policy=none"]
    )
    defaults = names.request_defaults(settings, materials.model(model))
    intake = names.requests_of(
        names.read_source(str(path), conditions=defaults.conditions),
        defaults,
        files=names.ConditionReader(names.Storage(str(materials.folder)), store=False),
    )
    made = len(list(intake))
    rejected = [
        {
            "caption": row.caption[:80],
            "id": row.sample_id if model == "demo" else "",  # of an image, with its path
            "message": row.message.replace(values["folder"], "{folder}"),
            "source": row.source_key.replace(values["folder"], "{folder}"),
        }
        for row in intake.rejected
    ]
    return {"made": made, "rejected": rejected}
