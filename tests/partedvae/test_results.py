"""Results: short texts, tables, and the joining of batches."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from partedvae import FactorResult, FeatureChunk, Features, ImageProblem, ModelDetails, ModelInfo, PartedVAEError
from partedvae.results import concatenate
from tests.bundles import COLOURED

DIGIT = FactorResult(
    name="digit",
    class_names=("4", "7"),
    probs=np.array([[0.25, 0.75], [0.5, 0.5]], np.float32),
    u_mean=np.array([[1, 2], [3, 4]], np.float32),
)
FEATURES = Features(
    factors=(DIGIT,),
    z=np.array([[5], [6]], np.float32),
    negative_elbo=np.array([7, 8], np.float32),
    model="mnist",
    version=3,
)
COLUMNS: dict[str, list[str] | list[float]] = {
    "digit": ["7", "4"],
    "digit_prob": [0.75, 0.5],
    "digit_u0": [1.0, 3.0],
    "digit_u1": [2.0, 4.0],
    "z0": [5.0, 6.0],
    "negative_elbo": [7.0, 8.0],
}


def test_the_repr_of_features_has_the_classes() -> None:
    """One line without arrays."""
    assert repr(FEATURES) == "Features(2 images, digit: ['7', '4'], model mnist/3)"
    assert repr(DIGIT) == "FactorResult(2 images, digit: ['7', '4'])"


def test_the_repr_lists_the_first_classes() -> None:
    """Five of them."""
    many = FactorResult(name="digit", class_names=("4", "7"), probs=np.tile(np.eye(2, dtype=np.float32), (600, 1)))

    assert repr(many) == "FactorResult(1,200 images, digit: ['4', '7', '4', '7', '4', …])"


def test_the_repr_without_probabilities_has_the_factor_only() -> None:
    """Where probs was not requested, the classes are not known."""
    u = FactorResult(name="digit", class_names=("4", "7"), u_mean=np.zeros((1, 2), np.float32))

    assert repr(Features(factors=(u,), model="mnist", version=3)) == "Features(1 image, digit, model mnist/3)"


def test_features_as_columns() -> None:
    """One value per image in each column."""
    assert FEATURES.to_dict() == COLUMNS


def test_features_as_a_table() -> None:
    """One row per image, with the column names of feature files; what was not requested is absent."""
    frame = FEATURES.to_pandas()

    pd.testing.assert_frame_equal(frame, pd.DataFrame(COLUMNS), check_dtype=False)
    assert frame["digit_u0"].dtype == np.float32


def test_log_variances_are_columns_of_their_own() -> None:
    """Their names do not clash with those of the means."""
    factor = FactorResult(name="digit", class_names=("4",), u_logvar=np.array([[1, 2]], np.float32))
    features = Features(factors=(factor,), z_logvar=np.array([[3]], np.float32))

    assert features.to_dict() == {"digit_u_logvar0": [1.0], "digit_u_logvar1": [2.0], "z_logvar0": [3.0]}


def test_a_chunk_as_a_table() -> None:
    """One row per image of the call by position; unusable images have an error and no features."""
    problem = ImageProblem(index=11, name="a.gif", reason="PDF is not supported")
    chunk = FeatureChunk(features=FEATURES, positions=(10, 12), problems=(problem,))
    frame = chunk.to_pandas()

    assert frame.index.tolist() == [10, 11, 12]
    assert frame.index.name == "position"
    assert frame["error"].isna().tolist() == [True, False, True]
    assert frame["error"][11] == "PDF is not supported"
    assert frame["digit"].dropna().tolist() == ["7", "4"]
    assert frame["digit_u1"].isna().tolist() == [False, True, False]
    assert repr(chunk) == (
        "FeatureChunk(positions 10 to 12, 1 problem, Features(2 images, digit: ['7', '4'], model mnist/3))"
    )


def test_a_chunk_of_problems_as_a_table() -> None:
    """It has errors only, and can be joined with other chunks."""
    problems = tuple(ImageProblem(index=i, name="", reason="no bytes") for i in (0, 1))
    chunk = FeatureChunk(features=None, positions=(), problems=problems)
    joined = pd.concat([chunk.to_pandas(), FeatureChunk(features=FEATURES, positions=(2, 3)).to_pandas()])

    assert chunk.to_pandas().to_dict() == {"error": {0: "no bytes", 1: "no bytes"}}
    assert joined["error"].isna().tolist() == [False, False, True, True]
    assert joined["digit"].tolist()[2:] == ["7", "4"]
    assert repr(chunk) == "FeatureChunk(2 problems)"


def test_tables_need_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the command that installs it."""
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(ModuleNotFoundError, match="not installed; install it with: pip install pandas"):
        FEATURES.to_pandas()


def test_a_list_of_models_as_a_table() -> None:
    """One row per version."""
    models = [ModelInfo(name="mnist", version=v, ready=v == 2, is_default=v == 2) for v in (1, 2)]
    frame = pd.DataFrame([model.to_dict() for model in models])

    assert frame.columns.tolist() == ["name", "version", "ready", "reason", "is_default"]
    assert frame["ready"].tolist() == [False, True]


def test_details_of_a_model() -> None:
    """The main fields, with the class names of each factor, and what was measured of the model."""
    details = ModelDetails(
        name="shapes", version=2, manifest=COLOURED.manifest(), execution_provider="CPUExecutionProvider"
    )

    assert repr(details) == (
        "ModelDetails(shapes/2, shape: ['square', 'ellipse', 'heart'], colour: ['red', 'blue'], CPUExecutionProvider)"
    )
    assert details.to_dict() == {
        "name": "shapes",
        "version": 2,
        "dataset": "tiny",
        "recipe": COLOURED.manifest().training.recipe,
        "labels_used": 256,
        "group_labels": {},
        "factors": {"shape": ["square", "ellipse", "heart"], "colour": ["red", "blue"]},
        "execution_provider": "CPUExecutionProvider",
        "precision": "fp32",
        "fit": "stretch",
        "has_scores": False,
        "limits": None,
        "front": "",
        "measures": {"generation/shape": 0.375, "generation/colour": 1.0, "probe_z_mlp/shape": 0.5},
        "warnings": ["images drawn for a class do not show it"],
    }


def test_batches_are_joined_in_order() -> None:
    """Every array that is present."""
    joined = concatenate([FEATURES, FEATURES])

    assert joined.to_dict() == {name: [*values, *values] for name, values in COLUMNS.items()}
    assert concatenate([FEATURES]) is FEATURES


def test_batches_of_two_versions_are_not_joined() -> None:
    """Their features are not comparable."""
    other = Features(factors=(DIGIT,), model="mnist", version=4)

    with pytest.raises(PartedVAEError, match="changed from version 3 to 4 during the call"):
        concatenate([FEATURES, other])
