from __future__ import annotations

import pytest
import torch

from sencache.families import WAN, CallReader, family_of, row_index
from tests.sencache.toys import CHANNELS, LinearTransformer, embeddings, tiny_wan


def test_subclasses_belong_to_the_family() -> None:
    model = tiny_wan()
    assert family_of(model) is WAN
    model.__class__ = type("xFuserWanTransformer3DWrapper", (type(model),), {})
    assert family_of(model) is WAN


def test_an_unknown_class_is_told_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"LinearTransformer; known: WanTransformer3DModel"):
        family_of(LinearTransformer(1, 1))


def test_an_unknown_context_is_told_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'both' is not one of the wan family \('cond', 'uncond"):
        WAN.branches("both")
    assert WAN.branches(None) == ("cond",)


def reader() -> CallReader:
    model = tiny_wan()
    return CallReader(WAN, model, model.forward)


def test_select_takes_rows_of_every_per_row_argument_and_leaves_the_rest() -> None:
    latents = torch.randn(3, CHANNELS, 2, 4, 4)
    options = {"scale": 1.0}
    call = reader()(
        (latents, torch.tensor([3, 2, 1])),
        {"encoder_hidden_states": embeddings([0, 1, 2]), "attention_kwargs": options},
    )
    chosen = call.select(row_index([2, 0], latents.device))
    assert torch.equal(chosen["hidden_states"], latents[[2, 0]])
    assert chosen["timestep"].tolist() == [1, 3]
    assert torch.equal(chosen["encoder_hidden_states"], embeddings([2, 0]))
    assert chosen["attention_kwargs"] is options
    assert "encoder_hidden_states_image" not in chosen


def test_an_argument_that_all_rows_share_is_not_split() -> None:
    call = reader()(
        (torch.randn(3, CHANNELS, 2, 4, 4), torch.tensor([5])),
        {"encoder_hidden_states": embeddings([0])},
    )
    chosen = call.select(torch.tensor([1]))
    assert chosen["timestep"].tolist() == [5]
    assert chosen["encoder_hidden_states"].shape[0] == 1


@pytest.mark.parametrize(
    ("timestep", "tau"),
    [
        (torch.tensor(250), [0.25, 0.25]),
        (torch.tensor([250]), [0.25, 0.25]),
        (torch.tensor([500, 250]), [0.5, 0.25]),
        (torch.tensor([[0, 500, 500], [0, 250, 250]]), [0.5, 0.25]),
    ],
)
def test_tau_per_row_for_every_form_of_timestep(timestep: torch.Tensor, tau: list[float]) -> None:
    call = reader()((torch.zeros(2, CHANNELS, 2, 4, 4), timestep, embeddings([0, 1])), {})
    assert call.tau(1000).tolist() == tau


def test_condition_channels_are_not_latents() -> None:
    call = reader()((torch.zeros(2, 2 * CHANNELS, 2, 4, 4), torch.tensor([1]), None), {})
    assert call.latents.shape == (2, CHANNELS, 2, 4, 4)
