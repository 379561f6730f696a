"""The library as `pip install` brings it: without Ray, xfuser and the pipeline."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_IMPORTED = {"transformers": "without it diffusers has no video pipeline"}
"""Packages of the base installation that the library itself does not import."""


def required(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def imported() -> set[str]:
    """Top-level modules that the library imports, anywhere."""
    found = set()
    for path in (ROOT / "sencache").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"sencache"}


def closure(names: set[str]) -> set[str]:
    """Installed distributions that some others bring with them, themselves included."""
    found: set[str] = set()
    left = set(names)
    while left:
        name = left.pop()
        found.add(name)
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # of another platform
            continue
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left |= {canonicalize_name(requirement.name)} - found
    return found


def absent_without_extras() -> set[str]:
    """Top-level modules installed here that the base installation does not bring."""
    base = closure(required(PROJECT["dependencies"]))
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not base & {canonicalize_name(owner) for owner in owners}
    } - {"sencache", "pipeline", "jobs", "__pycache__"}


def test_the_base_installation_is_what_the_library_imports() -> None:
    # Names of distributions and modules are equal for all of them.
    modules = {canonicalize_name(name) for name in imported()}
    assert required(PROJECT["dependencies"]) == modules | NOT_IMPORTED.keys()


@pytest.mark.slow
def test_every_package_of_the_pipeline_is_in_an_extra() -> None:
    extras = PROJECT["optional-dependencies"]
    assert {"ray", "pyarrow", "pydantic", "av"} <= required(extras["pipeline"])
    assert required(extras["xfuser"]) == {"xfuser", "distvae"}
    assert {"ray", "xfuser"} <= absent_without_extras()


def test_the_development_installation_has_the_extras_that_tests_need() -> None:
    (own,) = [
        requirement
        for requirement in map(Requirement, PROJECT["optional-dependencies"]["dev"])
        if requirement.name == PROJECT["name"]
    ]
    assert own.extras == {"pipeline", "xfuser", "lance"}


PROGRAM = '''
import importlib.machinery, sys
absent = set(sys.argv[1].split(","))

class Without:
    """Finds what another finder finds, but for modules that are not to be there."""
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            return None
        return self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(each) for each in sys.meta_path]
import sencache
heavy = {"torch", "diffusers", "transformers", "numpy", "inspect", "asyncio"} & set(sys.modules)
assert not heavy, heavy

import torch
from diffusers import UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
network = WanTransformer3DModel(
    patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4,
    out_channels=4, text_dim=16, freq_dim=32, ffn_dim=32, num_layers=2,
    qk_norm="rms_norm_across_heads", rope_max_seq_len=32,
)
sampler = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
pipe = WanPipeline(
    tokenizer=None, text_encoder=None, vae=None, scheduler=sampler, transformer=network,
)
text = torch.zeros(1, 6, 16)

from sencache import apply_sencache
cache = apply_sencache(pipe, "balanced")
frames = pipe(
    prompt_embeds=text, negative_prompt_embeds=text, num_inference_steps=12, height=32, width=32,
    num_frames=5, output_type="latent",
).frames
print(cache.summary())
(stats,) = cache.stats()
assert 0 < stats.nfe < 12 and torch.isfinite(frames).all()
assert not absent & set(sys.modules)
'''


@pytest.mark.slow
def test_the_library_caches_a_pipeline_where_no_extra_is_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(sorted(absent_without_extras()))],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "step" in done.stdout
