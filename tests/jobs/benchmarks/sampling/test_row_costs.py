import pytest
import torch

from jobs.benchmarks.sampling.row_costs import ideal_seconds, mixed_steps, relative_difference


def test_a_step_is_mixed_where_samples_differ() -> None:
    assert mixed_steps(["CRRC", "CRCC", "CRRC"]) == 1
    assert mixed_steps(["CRRC"]) == 0


def test_ideal_time_counts_plain_forwards_of_the_rows_that_ran() -> None:
    assert ideal_seconds([2, 0, 1, 2], {1: 1.0, 2: 1.5}) == 4.0


def test_difference_is_in_units_of_the_references_rms() -> None:
    reference = torch.full((2, 2), 2.0)
    moved = reference.clone()
    moved[0, 0] += 0.5
    assert relative_difference(moved, reference) == pytest.approx(0.25)
