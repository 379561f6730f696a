from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import SimpleNamespace

import diffusers
import pytest
import torch

from sencache.families.base import Family
from sencache.families.cogvideox import COGVIDEOX
from sencache.families.ltx import LTX
from sencache.families.mochi import MOCHI
from sencache.families.registry import (
    FAMILIES,
    UnknownTransformerError,
    family_of,
    register_family,
    unregister_family,
)
from sencache.families.wan import WAN
from sencache.hook.call import Call, CallReader, row_index
from tests.sencache.support.toys import (
    CHANNELS,
    LINEAR,
    LinearTransformer,
    embeddings,
    tiny_wan,
)


def test_subclasses_belong_to_the_family() -> None:
    model = tiny_wan()
    assert family_of(model) is WAN
    model.__class__ = type("xFuserWanTransformer3DWrapper", (type(model),), {})
    assert family_of(model) is WAN


def test_an_unknown_class_is_told_with_the_known_ones_and_what_to_declare() -> None:
    with pytest.raises(UnknownTransformerError) as told:
        family_of(LinearTransformer(1, 1))
    message = str(told.value)
    assert "class LinearTransformer, so it reuses none of its outputs" in message
    assert "Known: WanTransformer3DModel, " in message
    assert all(name in message for family in FAMILIES for name in family.classes)
    # The example can be pasted as it stands.
    example = message[message.index('Family(name="mine"') : -1]
    assert eval(example, {"Family": Family}).classes == ("LinearTransformer",)


@pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
def test_a_family_names_arguments_and_blocks_that_its_classes_have(family: Family) -> None:
    accepted: set[str] = set()
    for name in family.classes:
        cls = getattr(diffusers, name)
        accepted |= set(inspect.signature(cls.forward).parameters)
        assert {family.latents, family.timestep, "return_dict"} <= accepted
        source = inspect.getsource(cls)
        assert family.blocks or family.official is None  # else no residual can be reused
        assert all(f"self.{blocks} = nn.ModuleList(" in source for blocks in family.blocks)
        assert family.out_channels in inspect.signature(cls.__init__).parameters
    assert set(family.per_row) <= accepted
    assert set(family.moving) <= set(family.per_row)
    assert set(family.unnamed) <= set(family.contexts)
    shared = {
        "control_hidden_states_scale",
        "attention_kwargs",
        "return_dict",
        "image_rotary_emb",
        "rope_interpolation_scale",
        "num_frames",
        "height",
        "width",
        "audio_num_frames",
        "block_controlnet_hidden_states",
        "controlnet_block_samples",
        "enable_diffusion_forcing",
        "enable_temporal_attentions",
        "fps",
        "indices_hidden_states",
        "indices_latents",
        "indices_latents_clean",
        "indices_latents_history_2x",
        "indices_latents_history_4x",
        "indices_latents_history_long",
        "indices_latents_history_mid",
        "indices_latents_history_short",
        "isolate_modalities",
        "motion_encode_batch_size",
        "padding_mask",
        "scale_factor",
        "sparse_params",
        "spatio_temporal_guidance_blocks",
        "text_rope_pos",
        "use_cross_timestep",
        "visual_rope_pos",
    }
    assert accepted - set(family.per_row) - {"self"} <= shared


class SpecialWan(diffusers.WanTransformer3DModel):
    """A class that a user may declare although its base is known."""


@pytest.fixture
def registered() -> Iterator[Family]:
    register_family(LINEAR)
    yield LINEAR
    unregister_family(LINEAR)


def test_a_registered_family_is_known_until_it_is_unregistered(registered: Family) -> None:
    assert family_of(LinearTransformer(1, 1)) is registered
    register_family(registered)  # again is no fault
    unregister_family(registered)
    with pytest.raises(UnknownTransformerError):
        family_of(LinearTransformer(1, 1))


def test_a_registered_class_goes_before_its_base() -> None:
    special = Family("special", ("SpecialWan",), WAN.contexts, WAN.per_row)
    model = tiny_wan()
    model.__class__ = SpecialWan
    assert family_of(model) is WAN
    register_family(special)
    try:
        assert family_of(model) is special
    finally:
        unregister_family(special)


def test_what_is_known_cannot_be_declared_otherwise_nor_forgotten(registered: Family) -> None:
    other = Family("other", ("Unheard", "WanTransformer3DModel"), {}, ("hidden_states",))
    with pytest.raises(ValueError, match="WanTransformer3DModel already belongs to the wan"):
        register_family(other)
    with pytest.raises(ValueError, match="LinearTransformer already belongs to the linear"):
        register_family(Family("other", registered.classes, {}, ("hidden_states",)))
    with pytest.raises(UnknownTransformerError):  # nothing of the refused one stays
        family_of(type("Unheard", (torch.nn.Module,), {})())
    register_family(WAN)
    unregister_family(WAN)
    assert family_of(tiny_wan()) is WAN


@pytest.mark.parametrize(
    ("family", "told"),
    [
        (Family("", ("A",), {}, ("hidden_states",)), "needs a name"),
        (Family("a", (), {}, ("hidden_states",)), "needs a name"),
        (Family("a", ("A", ""), {}, ("hidden_states",)), "needs a name"),
        (Family("a", ("A",), {}, ("timestep",)), "must list its latents, 'hidden_states'"),
        (Family("a", ("A",), {"both": ()}, ("hidden_states",)), "must name 'cond'"),
        (
            Family("a", ("A",), {}, ("hidden_states",), unnamed=("both",)),
            "unnamed of the a family has 'both', which is not one of its contexts",
        ),
        (
            Family("a", ("A",), {"both": ("cond", "negative")}, ("hidden_states",)),  # type: ignore[arg-type]
            "must name 'cond'",
        ),
    ],
)
def test_an_incomplete_family_is_refused(family: Family, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        register_family(family)


def test_an_unknown_context_is_told_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'both' is not one of the wan family \('cond', 'uncond"):
        WAN.branches("both")
    assert WAN.branches(None) == ("cond",)
    assert MOCHI.branches("cond_uncond") == ("uncond", "cond")


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


def test_several_items_of_a_row_stay_together() -> None:
    images = torch.arange(6).view(6, 1, 1).float()  # first and last frame of three rows
    latents = torch.zeros(3, CHANNELS, 2, 4, 4)
    call = Call(WAN, {"hidden_states": latents, "encoder_hidden_states_image": images}, latents)
    chosen = call.select(torch.tensor([2, 0]))
    assert chosen["encoder_hidden_states_image"].flatten().tolist() == [4, 5, 0, 1]
    uneven = Call(WAN, {"encoder_hidden_states_image": images[:4]}, latents)
    assert uneven.select(torch.tensor([1]))["encoder_hidden_states_image"].shape[0] == 4


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


def test_tau_falls_where_timesteps_rise() -> None:
    latents = torch.zeros(2, 12, 2, 4, 4)
    for timestep, tau in (
        (torch.tensor([0, 250]), [1.0, 0.75]),
        (torch.tensor([[1000, 500], [1000, 750]]), [0.5, 0.25]),
    ):
        assert Call(MOCHI, {"timestep": timestep}, latents).tau(1000).tolist() == tau


def test_condition_channels_are_not_latents() -> None:
    call = reader()((torch.zeros(2, 2 * CHANNELS, 2, 4, 4), torch.tensor([1]), None), {})
    assert call.latents.shape == (2, CHANNELS, 2, 4, 4)


@pytest.mark.parametrize(
    ("family", "shape", "moving"),
    [
        (COGVIDEOX, (2, 3, 8, 4, 4), (2, 3, 4, 4, 4)),
        (LTX, (2, 6, 4), (2, 6, 4)),
        (MOCHI, (2, 4, 3, 4, 4), (2, 4, 3, 4, 4)),
    ],
)
def test_channels_are_found_in_every_layout(
    family: Family, shape: tuple[int, ...], moving: tuple[int, ...]
) -> None:
    def forward(hidden_states: torch.Tensor, timestep: torch.Tensor) -> None: ...

    network = torch.nn.Module()
    network.config = SimpleNamespace(out_channels=None, in_channels=4)  # type: ignore[assignment]
    call = CallReader(family, network, forward)((torch.zeros(shape), torch.tensor(1)), {})
    assert call.latents.shape == moving
