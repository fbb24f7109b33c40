"""Factor names that would give a feature file two columns of the same name are an error before training."""

from __future__ import annotations

from pathlib import Path

import pytest

from partedvae.common.column_names import check_column_names
from partedvae.serving.extract.layout import INCLUDE, Layout
from partedvae.training.data.dataset import DataError, FactorInfo
from partedvae.v1.manifest_pb2 import Factor, Manifest

TABLE = Path("my/labels.csv")


def factor(name: str, *classes: str) -> FactorInfo:
    return FactorInfo(name=name, classes=classes or ("a", "b"))


@pytest.mark.parametrize(
    "name", ["path", "index", "error", "metadata", "u", "z", "z0", "z12", "unfamiliar", "z_logvar0"]
)
def test_a_factor_with_the_name_of_a_fixed_column_is_an_error(name: str) -> None:
    message = rf"my/labels.csv, line 1: a factor cannot be called '{name}', as feature files .*; rename the column"
    with pytest.raises(DataError, match=message):
        check_column_names(TABLE, [factor("kind"), factor(name)])


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (factor("kind"), factor("kind_prob"), "kind_prob"),
        (factor("kind"), factor("kind_u0"), "kind_u0"),
        (factor("kind"), factor("kind_u"), "kind_u"),
        (factor("kind"), factor("kind_u_logvar3"), "kind_u_logvar3"),
        (factor("kind"), factor("kind_p"), "kind_p"),
        (factor("kind"), factor("kind_class_names"), "kind_class_names"),
        (factor("kind", "cat", "dog"), factor("kind_p_dog"), "kind_p_dog"),
        (factor("kind", "cat_prob", "dog"), factor("kind_p_cat"), "kind_p_cat_prob"),
        (factor("kind", "cat_u1", "dog"), factor("kind_p_cat"), "kind_p_cat_u1"),
    ],
)
def test_factors_that_share_a_column_are_an_error_in_either_order(
    one: FactorInfo, other: FactorInfo, shared: str
) -> None:
    for factors in ([one, other], [other, one]):
        with pytest.raises(DataError, match=rf"my/labels.csv, line 1: .* both have a column '{shared}' in") as caught:
            check_column_names(TABLE, factors)
        assert f"{one.name!r} and" in str(caught.value) or f"and {one.name!r}" in str(caught.value)
        assert f"{other.name!r} and" in str(caught.value) or f"and {other.name!r}" in str(caught.value)


def test_similar_names_without_a_shared_column_are_accepted_and_give_a_feature_file() -> None:
    names = ["kind", "kinds", "kind_probe", "kind_u_turn", "kind_p_bird", "zebra", "Error"]
    factors = [factor(name) for name in names]
    check_column_names(TABLE, factors)
    described = [Factor(name=f.name, class_names=f.classes, u_dim=2) for f in factors]
    manifest = Manifest(factors=described, z_dim=3)
    columns = Layout(key="path", manifest=manifest, include=INCLUDE).schema().names
    # The key, unfamiliar and error; the class, its probability, two of u and two probabilities of each factor; three of
    # z; two scores.
    assert len(set(columns)) == len(columns) == 3 + 6 * len(names) + 3 + 2
    vectors = Layout(key="path", manifest=manifest, include=INCLUDE, vectors=True).schema().names
    # All u are one column, all z another one, and the probabilities of each factor a third.
    assert len(set(vectors)) == len(vectors) == 3 + 3 * len(names) + 2 + 2
