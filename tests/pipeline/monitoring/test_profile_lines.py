"""What a run says of its promises."""

from __future__ import annotations

import dataclasses

from pipeline.monitoring.profile_lines import error_text
from pipeline.monitoring.totals import RunTotals


def test_controls_that_are_still_to_come_are_not_said_to_be_missing() -> None:
    totals = RunTotals(planned=1, promised_squares=0.01**2)
    assert error_text(totals) == (
        "promised 0.01 of the latents, if prompts are like those of the profile; no control "
        "measured it (--control-fraction)"
    )
    assert error_text(totals, controls_to_come=True) == (
        "promised 0.01 of the latents; not measured yet: the controls come with the same command"
    )


def test_a_missed_promise_is_said_but_for_quantised_clips() -> None:
    plain = RunTotals(planned=1, promised_squares=0.01**2, compared=2, latent_squares=2 * 0.3**2)
    assert error_text(plain).endswith("choose a higher --cache.quality")
    near = dataclasses.replace(plain, latent_squares=2 * 0.013**2)
    assert error_text(near) == (
        "promised 0.01 of the latents, 2 controls measured 0.013: 1.3 times as much, "
        "up to 1.5 times is usual"
    )
    text = error_text(dataclasses.replace(plain, quantised=1))
    assert text == (
        "promised 0.01 of the latents, 2 controls measured 0.3, with what quantised weights cost: "
        "no plan promises that part"
    )
