"""Configurations: the values of Table 6, validation, and `--set`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from partedvae.training.config.overrides import apply_overrides, settable_keys
from partedvae.training.config.recipes import recipe
from partedvae.training.config.train_config import SupervisionConfig, TrainConfig
from partedvae.training.data import celeba
from partedvae.training.data.mnist import INFO
from partedvae.training.data.registry import entry


def test_the_paper_recipe_has_table_6s_values() -> None:
    config = recipe(INFO, "paper")
    objective = config.objective
    assert (objective.gamma_c, objective.gamma_h) == (15, 30)
    assert (objective.gamma_z, objective.gamma_u, objective.gamma_bc) == (15, 15, 30)
    assert (objective.capacity_z, objective.capacity_u, config.schedule.capacity_ramp) == (7, 7, 100_000)
    assert (objective.bc_threshold, objective.reconstruction) == (0.15, "bce")
    assert (config.epochs, config.batch_size, config.optimiser.learning_rate) == (60, 64, 0.0015)
    assert (config.model.z_dim, config.model.factors[0].u_dim) == (6, 10)


def test_the_paper_recipes_of_dsprites_and_celeba_have_table_6s_values(tmp_path: Path) -> None:
    config = recipe(entry("dsprites").describe(tmp_path), "paper")
    objective = config.objective
    assert (objective.gamma_c, objective.gamma_h, objective.gamma_z, objective.gamma_u) == (100, 10, 50, 50)
    assert (objective.gamma_bc, objective.bc_threshold, objective.reconstruction) == (10, 0.1, "bce")
    assert (objective.capacity_z, objective.capacity_u, config.schedule.capacity_ramp) == (30, 5, 300_000)
    assert (config.epochs, config.optimiser.learning_rate, config.model.z_dim) == (30, 5e-4, 5)
    assert config.model.encoder_channels == (32, 32, 64, 64)
    config = recipe(entry("celeba").describe(tmp_path), "paper")
    objective = config.objective
    assert (objective.gamma_c, objective.gamma_h, objective.gamma_z, objective.gamma_u) == (2000, 10, 1000, 1000)
    assert (objective.gamma_bc, objective.bc_threshold, objective.reconstruction) == (500, 0.2, "l1")
    assert (objective.capacity_z, objective.capacity_u, config.schedule.capacity_ramp) == (30, 15, 125_000)
    assert (config.epochs, config.optimiser.learning_rate, config.model.z_dim) == (80, 5e-4, 10)
    assert [len(factor.classes) for factor in config.model.factors] == [4, 3, 2, 3, 2, 2, 2, 2]
    assert config.model.encoder_channels == (32, 32, 64, 64, 64)


@pytest.mark.parametrize("name", ["default", "paper"])
def test_a_configuration_is_equal_after_a_round_trip_through_json(name: str) -> None:
    config = recipe(INFO, name)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_configuration_of_earlier_versions_stretches() -> None:
    """Their config.json has no fit; another one is only for folders, whose images may have any shape."""
    values = recipe(INFO, "default").to_dict()
    assert values.pop("fit") == "stretch"
    assert TrainConfig.from_dict(values).fit == "stretch"
    assert TrainConfig.from_dict({**values, "dataset": "folder:photos", "fit": "crop"}).fit == "crop"
    with pytest.raises(ValueError, match="the images of 'mnist' have a fixed size; omit --fit crop"):
        TrainConfig.from_dict({**values, "fit": "crop"})


def test_set_changes_one_field_of_each_type() -> None:
    settings = [
        "objective.gamma_bc=0",
        "supervision.augment=no",
        "model.network_size=64, 64",
        "objective.kl_u=matched",
        "batch_size=32",
    ]
    config = apply_overrides(recipe(INFO, "default"), settings)
    assert config.objective.gamma_bc == 0.0
    assert config.supervision.augment is False
    assert config.model.network_size == (64, 64)
    assert config.objective.kl_u == "matched"
    assert config.batch_size == 32
    assert config.objective.gamma_z == 15


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("gamma_bc=0", "--set has no key 'gamma_bc'; did you mean 'objective.gamma_bc'?"),
        ("objective.gama_z=1", "did you mean 'objective.gamma_z'?"),
        ("labels=0", "--set has no key 'labels'; use the option --labels, which sets what follows from it too"),
        ("epochs", "--set 'epochs' is not KEY=VALUE"),
        ("epochs=few", "--set epochs='few': expected an integer"),
        ("objective.kl_u=both", "expected one of sampled, matched"),
        ("supervision.augment=perhaps", "expected true or false"),
        ("epochs=0", "epochs is 0; it must be at least 1"),
        ("objective.gamma_z=-1", "objective.gamma_z is -1.0; it must be 0 or more"),
        ("supervision.ema_decay=1", "supervision.ema_decay is 1.0; it must be in [0, 1)"),
        ("supervision.every=0", "supervision.every is 0; it must be at least 1"),
        ("model.encoder_channels=32", "must have the same length"),
        ("model.encoder_channels=0,2,3", "all at least 1"),
        ("model.network_size=4,4", "model.network_size is (4, 4); it must be at least 8 each way"),
        ("model.network_size=16", "expected 2 comma-separated integers"),
        ("schedule.attention_slope=-5", "schedule.attention_slope is -5.0; it must be above 0"),
        ("schedule.plateau_patience=-5", "schedule.plateau_patience is -5; it must be 0 or more"),
        ("schedule.supervised_cooldown=-5", "schedule.supervised_cooldown is -5; it must be 0 or more"),
        (
            "labelled=foo",
            "no selection of labelled images is called 'foo' (there are: first, random, stratified, balanced",
        ),
        ("objective.gamma_bc=inf", "expected a number"),
    ],
)
def test_set_rejects_invalid_settings(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        apply_overrides(recipe(INFO, "default"), [setting])


def test_a_classifier_has_a_supervised_step_in_every_step() -> None:
    with pytest.raises(ValueError, match=r"supervision\.every is 2; method 'classifier' has supervised steps alone"):
        apply_overrides(recipe(INFO, "default", "classifier"), ["supervision.every=2"])


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "dsprites", "faces"])
def test_only_default_clips_the_gradients_of_elbo_steps(tmp_path: Path, name: str) -> None:
    info = entry(name).describe(tmp_path)
    assert recipe(info, "default").optimiser.clip_factor == 2
    assert recipe(info, "paper").optimiser.clip_factor == 0
    assert recipe(info, "features").optimiser.clip_factor == 0
    assert recipe(info, "default", "classifier").optimiser.clip_factor == 0


@pytest.mark.parametrize(
    ("name", "expected"), [("faces", "he"), ("faces-large", "he"), ("celeba", "he"), ("mnist", "pytorch")]
)
def test_default_of_faces_has_the_initial_weights_of_he(tmp_path: Path, name: str, expected: str) -> None:
    info = entry(name).describe(tmp_path)
    assert recipe(info, "default").model.initial_weights == expected
    assert recipe(info, "paper").model.initial_weights == "pytorch"


def test_initial_weights_have_two_names() -> None:
    with pytest.raises(ValueError, match=r"model\.initial_weights='xavier': expected one of pytorch, he"):
        apply_overrides(recipe(INFO, "default"), ["model.initial_weights=xavier"])


def test_set_accepts_the_keys_of_earlier_versions() -> None:
    config = apply_overrides(recipe(INFO, "default"), ["objective.overlap_tolerance=0.25"])
    assert config.objective.bc_threshold == 0.25


def test_the_error_for_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no recipe for 'mnist' is called 'papr'; did you mean 'paper'\?"):
        recipe(INFO, "papr")


def test_every_key_is_settable_to_its_own_value() -> None:
    """No field has a type that `--set` cannot parse."""
    config = recipe(INFO, "default")
    for key in settable_keys():
        value: object = config
        for part in key.split("."):
            value = getattr(value, part)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert apply_overrides(config, [f"{key}={text}"]) == config


def test_paddings_are_pairs_separated_by_semicolons() -> None:
    config = apply_overrides(recipe(INFO, "default"), ["model.encoder_paddings=0,1; 1,2;1,1"])
    assert config.model.encoder_paddings == ((0, 1), (1, 2), (1, 1))
    with pytest.raises(ValueError, match="expected pairs of comma-separated integers, separated by semicolons"):
        apply_overrides(recipe(INFO, "default"), ["model.encoder_paddings=0,1,1"])
    with pytest.raises(ValueError, match="must be empty or have one entry per convolution"):
        apply_overrides(recipe(INFO, "default"), ["model.encoder_paddings=0,1"])


def test_the_recipe_features_has_no_labels_and_at_least_32_dimensions_of_u() -> None:
    default = recipe(INFO)
    features = recipe(INFO, "features")
    assert (features.recipe, features.labels, features.supervision) == ("features", 0, SupervisionConfig())
    assert (features.model.u_dim, features.model.z_dim) == (32, default.model.z_dim)
    assert (features.epochs, features.epoch_images) == (default.epochs, default.epoch_images)
    assert (features.objective.gamma_contrast, features.objective.gamma_exchange) == (1000, 0)
    assert recipe(celeba.INFO, "features").model.u_dim >= 32
    with pytest.raises(ValueError, match="there are: default, paper, features"):
        recipe(INFO, "feature")
    for given in ({"labels": 10}, {"method": "vae"}):
        with pytest.raises(ValueError, match="has no labels and no other method; omit --labels and --method"):
            recipe(INFO, "features", **given)
