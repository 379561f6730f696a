"""The bad files that command lines name, and the bad rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FILES: Mapping[str, bytes] = {
    "p.txt": b"a red circle moving left\n",
    "p.csv": b"name,text_of_clip\n1,a cat\n",
    "empty.txt": b"",
    "blank.txt": b"\n\n  \n",
    "empty.jsonl": b"",
    "broken.jsonl": b'{"prompt": "cut',
    "header.csv": b"prompt,seed\n",
    "twice.csv": b"prompt,seed,seed\na,1,2\n",
    "wide.tsv": b"prompt\tseed\na\t1\t2\n",
    "latin.csv": b"prompt\ncaf\xe9\n",
    "utf16.csv": "prompt\nä\n".encode("utf-16"),
    "p.doc": b"a cat",
    "p.jsonl.gz": b"\x1f\x8b",
    "torn.parquet": b"PAR1 and no more",
    "empty.parquet": b"",
    "bad.yaml": b"prompts: [p.txt\noutput: out\n",
    "unknown.yaml": b"prompts: p.txt\noutput: out\nguidance: 3\n",
    "nested.yaml": b"prompts: p.txt\noutput: out\ncache: {epsilonn: 3}\n",
    "list.yaml": b"- a\n- b\n",
    "section.yaml": b"cache: fast\n",
    "bool.yaml": b"max_attempts: true\n",
    "range.yaml": b"max_failed_fraction: 2\n",
    "word.yaml": b"sampling: {width: wide}\n",
    "both.yaml": b"cache: {budget: 0.4, epsilon: 0.1}\n",
    "python.yaml": b"a: !!python/object:os.x {}\n",
    "twice.yaml": b"limit: 1\nlimit: 2\n",
    "bytes.yaml": b"prompts: \xff\xfa\n",
    "profile.json": b"{}",
    "text.json": b"no profile",
    "style.pt": b"no adapter",
    "prices.yaml": b"- what\n",
    "weights/none": b"",
    "other/model_index.json": b'{"_class_name": "LTXPipeline"}',
    "index/model_index.json": b"[]",
    "mixed/a.txt": b"a cat\n",
}

ROW_CASES: Mapping[str, str] = {
    "nul": '{"prompt": "clip \\u0000"}',
    "surrogate": '{"prompt": "\\ud800"}',
    "long": '{"prompt": "' + "x" * 10_001 + '"}',
    "too long a line": '{"prompt": "' + "x" * (1 << 20) + '"}',
    "negative width": '{"prompt": "a", "width": -64}',
    "no width": '{"prompt": "a", "width": 0}',
    "odd width": '{"prompt": "a", "width": 65}',
    "odd height": '{"prompt": "a", "height": 17}',
    "odd frames": '{"prompt": "a", "num_frames": 10}',
    "pixels": '{"prompt": "a", "num_frames": 99997, "width": 16000, "height": 16000}',
    "infinite width": '{"prompt": "a", "width": 1e400}',
    "nan": '{"prompt": "a", "width": NaN}',
    "huge": '{"prompt": "a", "width": 1' + "0" * 400 + "}",
    "half": '{"prompt": "a", "width": 64.5}',
    "text for a number": '{"prompt": "a", "width": "64"}',
    "truth for a number": '{"prompt": "a", "width": true}',
    "list for a number": '{"prompt": "a", "width": [64]}',
    "seed below": '{"prompt": "a", "seed": -1}',
    "seed above": '{"prompt": "a", "seed": 9223372036854775808}',
    "seed text": '{"prompt": "a", "seed": "two"}',
    "steps": '{"prompt": "a", "num_inference_steps": 1001}',
    "fps": '{"prompt": "a", "fps": 241}',
    "guidance text": '{"prompt": "a", "guidance_scale": "high"}',
    "guidance above": '{"prompt": "a", "guidance_scale": 101}',
    "negative prompt": '{"prompt": "a", "negative_prompt": 5}',
    "dictionary": '{"prompt": {"text": "a"}}',
    "missing": '{"prompt": null}',
    "blank": '{"prompt": "   "}',
    "another name": '{"caption": "another name"}',
    "list": "[1, 2]",
    "cut": '{"prompt": "cut',
    "twice": '{"prompt": "before"}',
}
"""Name to a line of JSONL that comes after a good one."""


def files(folder: Path) -> None:
    """Write the bad files."""
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def parquet_rows(folder: Path) -> dict[str, Path]:
    """Files of other kinds with bad rows in them."""
    tables = {
        "parquet bytes": pa.table({"prompt": pa.array([b"bytes", b"\xff"], pa.binary())}),
        "parquet text": pa.table({"prompt": ["a", "b", None, ""], "width": [64.0, None, 64.5, 64]}),
        "parquet seed": pa.table({"prompt": ["b", "c"], "seed": ["two", None]}),
    }
    found = {}
    for name, table in tables.items():
        found[name] = folder / f"{name.replace(' ', '-')}.parquet"
        pq.write_table(table, found[name])
    for name in ("wide.tsv", "latin.csv"):
        found[name] = folder / name
    return found
