"""Each command in a tiny setting: what it prints and the counts in it, never its times."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.benchmark import main

pytestmark = pytest.mark.filterwarnings("ignore::sencache.ProfileWarning")

RANDOM = (
    "--model wan2.1-t2v-1.3b --random-weights --device cpu --height 32 --width 32 --num-frames 5 "
    "--layers 1 --text-tokens 8 --steps 8 --batch-rows 1 --repeats 1"
)


def _result(arguments: str, folder: Path) -> Any:
    out = folder / "out.json"
    assert main([*arguments.split(), "--json", str(out)]) == 0
    return json.loads(out.read_text())["result"]


@pytest.mark.variant
@pytest.mark.slow
def test_overhead_of_the_demo_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = _result("overhead --device cpu --batch-rows 1 --steps 10 --repeats 1", tmp_path)
    by_name = {arm["name"]: arm for arm in arms}
    assert list(by_name)[:4] == ["no hook", "no hook (2)", "epsilon 0", "policy none"]
    for name in list(by_name)[:4]:
        assert (by_name[name]["nfe_mean"], by_name[name]["ideal"]) == (10, 1)
    assert by_name["epsilon 0.4"]["nfe_mean"] < 10
    for arm in arms:
        assert arm["efficiency"] == pytest.approx(arm["ratio"] / arm["ideal"])
    assert "of ideal" in capsys.readouterr().out


@pytest.mark.variant
@pytest.mark.slow
def test_random_weights_reuse_by_a_fixed_pattern(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = _result(f"overhead {RANDOM}", tmp_path)
    nfe = {arm["name"]: arm["nfe_mean"] for arm in arms}
    # CRCRCRCC, CRRCRRCC, CRRRCRRC: the last step always computes.
    assert [nfe[f"fixed, n {cap}"] for cap in (1, 2, 3)] == [5, 4, 3]
    assert "fixed pattern" in " ".join(capsys.readouterr().out.split())


@pytest.mark.variant
@pytest.mark.slow
def test_batching_computes_the_rows_that_are_needed(tmp_path: Path) -> None:
    result = _result(
        "batching --device cpu --rows 1 2 3 --steps 10 --repeats 1 --epsilon 0.45", tmp_path
    )
    assert list(result["forward_s"]) == ["1", "2", "3"]
    one, two, three = result["batches"]
    assert [batch["rows"] for batch in (one, two, three)] == [1, 2, 3]
    for batch in (one, two, three):
        assert batch["computed"] == batch["needed"]
        assert batch["computed"] == 2 * batch["rows"] * batch["nfe_mean"]  # two branches
        assert batch["agreeing"] >= batch["computed"]
        assert batch["agreeing"] % (2 * batch["rows"]) == 0
        assert batch["other_verdicts"] == 0
        assert batch["max_difference"] < 1e-3
    assert one["max_difference"] == 0
    assert one["mixed_steps"] == 0
    assert three["nfe_mean"] < 10


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("overhead --repeats 0", "--repeats 0"),
        ("overhead --batch-rows -1", "--batch-rows -1"),
        ("overhead --model demo --random-weights", "no architecture of demo"),
        (f"overhead {RANDOM} --height 30", "height 30"),
        ("overhead --model cogvideox-2b", "--model-path"),
        ("batching --rows 0", "--rows 0"),
        ("batching --epsilon -1", "epsilon"),
        ("batching --prompts nope.txt", "nope.txt"),
    ],
)
def test_bad_input_is_one_line(
    arguments: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert expected in error
