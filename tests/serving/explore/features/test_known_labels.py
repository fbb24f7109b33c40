"""True labels of data sets in the format of MNIST."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from partedvae.serving.explore.features.file import read_features
from partedvae.serving.explore.features.known_labels import with_known_labels
from tests.bundles import GREY
from tests.serving.extraction import extract, idx

IMAGES = GREY.random_images(12)
LABELS = np.arange(12, dtype=np.uint8) % 10


@pytest.mark.parametrize("given", ["mnist:test", "mnist/t10k-images-idx3-ubyte.gz"])
def test_labels_may_be_compressed(given: str, tiny_models: Path, tmp_path: Path) -> None:
    """As they are downloaded: of a data set by its name, and beside a file of images; damaged ones are left out."""
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES[..., 0])))
    labels = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx(LABELS)))
    source = given if ":" in given else f"{tmp_path}/{given}"
    options = ("--data", tmp_path, "--model", tiny_models / "tiny")
    assert extract(source, tmp_path / "f.parquet", *options).exit_code == 0
    table = read_features(str(tmp_path / "f.parquet"))

    known = with_known_labels(table, source, tmp_path).categories["label"]

    assert [known.values[code] for code in known.codes] == [str(label) for label in LABELS]
    labels.write_bytes(labels.read_bytes()[:-12])
    assert with_known_labels(table, source, tmp_path).categories == {}
