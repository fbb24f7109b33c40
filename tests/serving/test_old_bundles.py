"""A bundle that version 0.1.0 exported loads and computes what it computed then."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from partedvae.serving import load

FIXTURE = Path(__file__).parents[1] / "fixtures" / "v0.1.0"


def test_a_bundle_of_version_0_1_0_computes_the_same() -> None:
    model = load(FIXTURE / "models" / "toys")
    assert (model.name, model.version, model.manifest.training.dataset) == ("toys", 1, "toys")
    with np.load(FIXTURE / "features.npz") as expected:
        result = model.features(expected["images"], include=["probs", "u_mean", "z_mean", "negative_elbo"])
        computed = {
            "corner": result["corner"].probs,
            "corner_u": result["corner"].u_mean,
            "shade": result["shade"].probs,
            "shade_u": result["shade"].u_mean,
            "z": result.z,
            "negative_elbo": result.negative_elbo,
        }
        for name, values in computed.items():
            assert values is not None
            np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_its_decoder_still_generates() -> None:
    model = load(FIXTURE / "models" / "toys" / "1")
    generated = model.generate(2, classes={"corner": "top left", "shade": "bright"}, seed=0)
    assert generated.images.shape == (2, 16, 16, 1)
    assert generated.classes["corner"].tolist() == ["top left"] * 2
