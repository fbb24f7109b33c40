"""Which test images are shown, and what their classes are called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from partedvae.training.data.dataset import Split
from partedvae.training.figures import context as module
from partedvae.training.figures.context import Encoded, encode_sample
from partedvae.training.model.distributions import Gaussian
from partedvae.training.runs.directory import RunDirectory
from tests.training.figures import runs
from tests.training.toys import CORNERS, SHADES

RunOf = Callable[[str], Path]


def encoded(predictions: list[int], labels: list[int], *, use_labels: bool = True) -> Encoded:
    """Return images of which only the classes matter."""
    count = len(predictions)
    return Encoded(
        split=Split(images=torch.zeros(count, 1, 1, 1, dtype=torch.uint8), labels=torch.tensor(labels)[:, None]),
        predictions=torch.tensor(predictions)[:, None],
        u=torch.zeros(count, 1),
        z=Gaussian(torch.zeros(count, 1), torch.zeros(count, 1)),
        use_labels=(use_labels,),
    )


def test_the_class_of_an_image_is_its_label_or_else_what_the_model_says() -> None:
    assert encoded([0, 1, 2], [0, 2, -1]).classes(0).tolist() == [0, 2, 2]
    assert encoded([0, 1, 2], [0, 2, -1], use_labels=False).classes(0).tolist() == [0, 1, 2]


def test_only_recognised_images_are_examples_unless_there_is_none() -> None:
    assert encoded([0, 1, 2], [0, 2, -1]).recognised(0).tolist() == [0, -1, 2]
    assert encoded([0, 1], [1, 0]).recognised(0).tolist() == [0, 1]


def test_the_sample_is_random_encoded_once_and_of_limited_size(run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE", 20)
    path = run_of("toys")
    first, again, other = (runs.subject(path, seed).encoded for seed in (0, 0, 1))
    assert len(first.split) == len(first.u) == len(first.z.mean) == len(first.predictions) == 20
    assert torch.equal(first.split.labels, again.split.labels)
    assert not torch.equal(first.split.labels, other.split.labels)


def test_the_encoded_images_are_those_of_the_split(run_of: RunOf) -> None:
    subject = runs.subject(run_of("toys"))
    test = runs.load("toys", Path("data")).test
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(5))
    found = encode_sample(subject.model, test, subject.config, subject.label_counts, torch.Generator().manual_seed(5))
    assert torch.equal(found.split.labels, test.labels[order])
    assert torch.equal(found.split.images[torch.arange(3)], test.images[order[:3]])


def test_bases_are_images_of_different_classes(run_of: RunOf) -> None:
    subject = runs.subject(run_of("toys"))
    subject.__dict__["encoded"] = encoded([3, 3, 1, 0], [3, 3, 1, 2])
    bases = subject.bases(3)
    assert [(base.class_index, base.name) for base in bases] == [
        (3, f"corner: {CORNERS[3]}"),
        (1, f"corner: {CORNERS[1]}"),
    ]


def test_without_labels_in_training_classes_are_numbered(run_of: RunOf) -> None:
    subject = runs.subject(run_of("unlabelled"))
    assert subject.factors[1].classes == ("cluster 1", "cluster 2")
    assert runs.subject(run_of("toys")).factors[0].classes == CORNERS


def test_classes_of_the_one_factor_without_a_label_are_numbered(run_of: RunOf) -> None:
    subject = runs.subject(run_of("half-labelled"))
    assert [factor.classes for factor in subject.factors] == [CORNERS, ("cluster 1", "cluster 2")]
    assert subject.encoded.use_labels == (True, False)
    assert torch.equal(subject.encoded.classes(1), subject.encoded.predictions[:, 1])
    assert torch.equal(subject.encoded.classes(0), subject.encoded.split.labels[:, 0])


def test_a_run_of_before_labels_were_counted_by_factor_has_those_of_its_configuration(run_of: RunOf) -> None:
    path = run_of("toys")
    run = RunDirectory(path)
    assert run.load_label_counts() == {"corner": 40, "shade": 40}
    provenance = run.load_provenance()
    del provenance["label_counts"]
    run.provenance_file.write_text(json.dumps(provenance))
    assert run.load_label_counts() == {"corner": 40, "shade": 40}
    assert runs.subject(path).factors[1].classes == SHADES


def test_the_prior_base_is_the_mean_of_the_most_probable_class(run_of: RunOf) -> None:
    subject = runs.subject(run_of("coloured"))
    base = subject.prior_base()
    assert torch.equal(base.u, subject.modes(0).mean[0])
    assert base.z.tolist() == [0, 0]
