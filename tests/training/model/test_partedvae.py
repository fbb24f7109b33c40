"""The networks have the paper's shapes, and calling the model changes nothing."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from partedvae.training.config.recipes import recipe
from partedvae.training.data import celeba
from partedvae.training.data.mnist import INFO
from partedvae.training.model.networks import feature_map_sizes, postprocess, preprocess
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.reports.describe import describe_config
from tests.training.toys import TOY_MODEL


def test_table_3_as_layers() -> None:
    model = PartedVAE(recipe(INFO, "paper").model)
    convolutions = [c for c in model.trunk.convolutions if isinstance(c, nn.Conv2d)]
    assert [list(c.weight.shape) for c in convolutions] == [[32, 1, 4, 4], [64, 32, 4, 4], [64, 64, 4, 4]]
    assert tuple(model.trunk.hidden.weight.shape) == (256, 1024)
    (factor,) = model.class_factors()
    assert tuple(factor.logits.weight.shape) == (10, 256)
    assert tuple(factor.attention.weight.shape) == (256, 10)
    assert tuple(factor.u_head.weight.shape) == (20, 256)
    assert tuple(model.z_head.weight.shape) == (12, 256)
    assert tuple(model.decoder.hidden.weight.shape) == (256, 16)
    assert tuple(model.decoder.map.weight.shape) == (1024, 256)
    assert [c.out_channels for c in model.decoder.convolutions] == [32, 32, 1]


@pytest.mark.parametrize(("size", "channels"), [((16, 16), 1), ((64, 64), 3), ((218, 178), 3), ((37, 50), 1)])
def test_the_decoder_restores_any_input_size_of_the_networks(size: tuple[int, int], channels: int) -> None:
    config = dataclasses.replace(TOY_MODEL, network_size=size, image_size=(*size, channels))
    model = PartedVAE(config)
    posterior = model.encode(torch.rand(2, channels, *size), slope=8.0)
    assert model.decoder(posterior.u_mean, posterior.z.mean).shape == (2, channels, *size)


def test_feature_maps_halve_and_round_down() -> None:
    layers = (8,) * 5
    config = dataclasses.replace(
        TOY_MODEL, network_size=(218, 178), encoder_channels=layers, decoder_channels=layers, encoder_paddings=()
    )
    assert feature_map_sizes(config) == [(218, 178), (109, 89), (54, 44), (27, 22), (13, 11), (6, 5)]


def test_table_5_ends_at_5_by_5() -> None:
    config = recipe(celeba.INFO, "paper").model
    assert feature_map_sizes(config) == [(218, 178), (108, 90), (54, 46), (26, 24), (12, 12), (5, 5)]
    model = PartedVAE(config)
    assert model.trunk.hidden.in_features == model.decoder.map.out_features == 1600
    posterior = model.encode(torch.rand(1, 3, 218, 178), slope=8.0)
    assert model.decoder(posterior.u_mean, posterior.z.mean).shape == (1, 3, 218, 178)


def test_attention_and_u_heads_of_several_factors_start_as_parts_of_one_layer() -> None:
    """The authors' code has one masked layer for all class variables: fan-in 21 and 8 x 256."""
    for factor in PartedVAE(recipe(celeba.INFO, "paper").model).class_factors():
        classes = sum(len(spec.classes) for spec in celeba.INFO.factors)
        for layer, inputs in ((factor.attention, classes), (factor.u_head, 2048)):
            bound = inputs**-0.5
            largest = max(parameter.abs().max().item() for parameter in layer.parameters())
            assert 0.9 * bound < largest <= bound


def test_initial_weights_of_he_keep_the_size_of_activations() -> None:
    """Of the trunk and of the decoder; with PyTorch's, each layer shrinks them. The last layer has PyTorch's."""
    config = dataclasses.replace(
        TOY_MODEL, network_size=(64, 64), encoder_channels=(64,) * 4, decoder_channels=(64,) * 4, hidden_dim=256
    )
    torch.manual_seed(0)
    usual, he = PartedVAE(config), PartedVAE(dataclasses.replace(config, initial_weights="he"))
    pixels = torch.randn(32, 1, 64, 64)
    latents = torch.randn(32, config.u_dim), torch.randn(32, config.z_dim)

    def sizes(model: PartedVAE) -> list[float]:
        """Return the root mean squares of h and of the map before the decoder's convolutions, of inputs of size 1."""
        hidden = torch.relu(model.decoder.hidden(torch.cat(latents[::-1], dim=-1)))
        outputs = (model.trunk(pixels), torch.relu(model.decoder.map(hidden)))
        return [output.square().mean().sqrt().item() for output in outputs]

    assert max(sizes(usual)) < 0.25
    assert all(0.7 < size < 1.3 for size in sizes(he))  # less than 1 where the borders are padded
    weights = [layer for layer in he.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert all((layer.bias == 0).all() for layer in weights[:-1] if layer.bias is not None)
    middle, last = weights[-2:]
    assert middle.weight.std().item() == pytest.approx((2 / (64 * 4)) ** 0.5, rel=0.05)
    assert last.weight.abs().max().item() <= 16**-0.5


def test_evaluation_takes_the_most_probable_class_and_training_a_relaxed_one() -> None:
    model, pixels = PartedVAE(TOY_MODEL), torch.rand(4, 1, 16, 16)
    hard, soft = model.encode(pixels, slope=8.0), model.encode(pixels, slope=8.0, temperature=0.67)
    for factor in hard.factors:
        assert torch.equal(factor.class_weights.argmax(1), factor.logits.argmax(1))
        assert torch.equal(factor.class_weights.sum(1), torch.ones(4))
        assert set(factor.class_weights.unique().tolist()) == {0.0, 1.0}
    for factor in soft.factors:
        torch.testing.assert_close(factor.class_weights.sum(1), torch.ones(4))
        assert 0 < factor.class_weights.max().item() < 1
    again = model.encode(pixels, slope=8.0)
    assert torch.equal(hard.u_mean, again.u_mean)


def test_the_attention_gates_hidden_units_by_class() -> None:
    """With the gate of a class closed, only the bias of the head is left."""
    model = PartedVAE(TOY_MODEL)
    factor = next(model.class_factors())
    with torch.no_grad():
        factor.attention.weight.zero_()
        factor.attention.bias.fill_(-1000.0)
    u = factor.u_posterior(torch.rand(3, 32), torch.eye(4)[:3], slope=8.0)
    torch.testing.assert_close(torch.cat(u, dim=1), factor.u_head.bias.expand(3, -1))


def test_the_priors_log_variances_stay_within_the_authors_bound() -> None:
    factor = next(PartedVAE(TOY_MODEL).class_factors())
    with torch.no_grad():
        factor.prior_raw_logvar.copy_(torch.linspace(-50, 50, 8).reshape(4, 2))
    logvar = factor.prior_modes().logvar
    assert (logvar.min().item(), logvar.max().item()) == (-3.0, 1.0)


def test_prior_means_can_start_at_equal_distances() -> None:
    factor = next(PartedVAE(dataclasses.replace(TOY_MODEL, prior_spacing=2.5)).class_factors())
    modes = factor.prior_modes()
    assert modes.mean[:, 0].tolist() == [-3.75, -1.25, 1.25, 3.75]
    assert modes.logvar[:, 0].tolist() == [-1.0] * 4
    assert modes.mean[:, 1].abs().max() < 3.75


def test_postprocessing_inverts_preprocessing() -> None:
    images = torch.randint(256, (3, 28, 28, 1), dtype=torch.uint8)
    pixels = preprocess(images, (28, 28))
    assert pixels.shape == (3, 1, 28, 28)
    assert (pixels.min() >= 0).item()
    assert (pixels.max() <= 1).item()
    assert torch.equal(postprocess(pixels, (28, 28)), images)
    assert preprocess(images, (32, 32)).shape == (3, 1, 32, 32)


def test_describe_prints_tables_3_and_6() -> None:
    text = describe_config(recipe(INFO, "paper"), 60_000)
    for line in (
        "32 conv. 4 x 4, stride 2, padding 1, ReLU -> 32 x 16 x 16",
        "64 conv. 4 x 4, stride 2, padding 1, LeakyReLU(0.1) -> 64 x 4 x 4",
        "FC 256, LeakyReLU(0.1) (h)",
        "FC 1024, ReLU -> 64 x 4 x 4",
        "FC 256 (a from c of digit), FC 2 x 10 (u from h.a)",
        "1 conv. transpose 4 x 4, stride 2, padding 1, sigmoid -> 1 x 32 x 32",
    ):
        assert line in text
    rows = [line.split(maxsplit=3) for line in text.splitlines()]
    assert ["gamma", "c,", "h", "15, 30"] in rows
    assert "3.94, 3.94 after 56,280 steps" in text


def test_describe_shows_how_often_a_supervised_step_runs() -> None:
    config = recipe(INFO, "paper")
    rarely = dataclasses.replace(config, supervision=dataclasses.replace(config.supervision, every=4))
    assert f"{'supervised step':<34}before each step" in describe_config(config, 60_000)
    assert f"{'supervised step':<34}every 4 steps after a tenth of the run" in describe_config(rarely, 60_000)


def test_describe_shows_when_dimensions_of_z_open_and_the_terms_that_separate_u_and_z_begin() -> None:
    config = recipe(INFO)
    late = dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, separation_start=0.25))
    late = dataclasses.replace(late, objective=dataclasses.replace(late.objective, beta_z=2.0))
    assert f"{'weight of the KL of z':<34}2" in describe_config(late, 60_000)
    late = dataclasses.replace(late, schedule=dataclasses.replace(late.schedule, z_opening=0.1))
    assert f"{'dimensions of z open':<34}one per 0.1 of the run; weight 10 until then" in describe_config(late, 60_000)
    line = f"{'exchange, cycle, adversary begin':<34}after 0.25 of the run"
    assert line in describe_config(late, 60_000)
    assert "begin" not in describe_config(config, 60_000)


def test_describe_omits_settings_that_a_baseline_does_not_use() -> None:
    text = describe_config(recipe(INFO, "paper", "beta-vae"), 60_000)
    names = [line[2:36].strip() for line in text.splitlines()]
    assert "beta" in names
    assert not {"gamma z, u", "labelled images", "temperature", "priors p(c)"} & set(names)
