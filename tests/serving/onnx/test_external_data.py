"""Tests of `partedvae.serving.onnx.external_data` with graphs whose weights are in another file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from partedvae.serving.bundle import DECODER_FILE, ENCODER_FILE, SCORER_FILE, write_bundle
from partedvae.serving.errors import BundleError
from partedvae.serving.onnx.external_data import external_tensor
from partedvae.serving.onnx.model import OnnxModel
from tests.bundles import GREY, OPSET

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
PRODUCT = helper.make_node("MatMul", ["x", "w"], ["y"])


def external(name: str = "w") -> TensorProto:
    """Return a float [2, 3] tensor in weights.bin."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def in_initializer() -> ModelProto:
    return helper.make_model(helper.make_graph([PRODUCT], "g", [X], [Y], [external()]))


def in_constant() -> ModelProto:
    constant = helper.make_node("Constant", [], ["w"], value=external())
    return helper.make_model(helper.make_graph([constant, PRODUCT], "g", [X], [Y]))


def in_subgraph() -> ModelProto:
    """In a branch of If, where ONNX Runtime 1.32 reads it from the working directory if the graph comes as bytes."""
    branch = helper.make_graph([PRODUCT], "branch", [], [Y], [external()])
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return helper.make_model(helper.make_graph([choice], "g", [X], [Y], [numpy_helper.from_array(np.array(True), "c")]))


def in_function() -> ModelProto:
    nodes = [helper.make_node("Constant", [], ["w"], value=external()), PRODUCT]
    function = helper.make_function("own", "F", ["x"], ["y"], nodes, [helper.make_opsetid("", OPSET)])
    call = helper.make_node("F", ["x"], ["y"], domain="own")
    return helper.make_model(helper.make_graph([call], "g", [X], [Y]), functions=[function])


def in_sparse_tensor() -> ModelProto:
    sparse = onnx.SparseTensorProto(values=external(), dims=[2, 3])
    return helper.make_model(helper.make_graph([PRODUCT], "g", [X], [Y], sparse_initializer=[sparse]))


def in_list() -> ModelProto:
    node = helper.make_node("Anything", ["x"], ["y"], tensors=[external("other"), external()])
    node.attribute[0].tensors[0].data_location = TensorProto.DEFAULT
    return helper.make_model(helper.make_graph([node], "g", [X], [Y]))


@pytest.mark.parametrize("make", [in_initializer, in_constant, in_subgraph, in_function, in_sparse_tensor, in_list])
def test_external_data_is_found_everywhere(make: Callable[[], ModelProto]) -> None:
    assert external_tensor(make().SerializeToString()) == "w"


def test_graphs_without() -> None:
    """Graphs whose weights are inside have none, and neither has what is no graph."""
    for graph in (GREY.encoder_graph(), GREY.decoder_graph(), GREY.scorer_graph()):
        assert external_tensor(graph.SerializeToString()) is None
    assert external_tensor(b"") is None
    assert external_tensor(b"\xff" * 100) is None


def test_a_bundle_with_external_data_is_refused(tmp_path: Path) -> None:
    """As onnx.save writes it: the checksum of the graph is right, and says nothing about the weights."""

    def write_graphs(folder: Path) -> None:
        onnx.save(
            GREY.encoder_graph(),
            folder / ENCODER_FILE,
            save_as_external_data=True,
            location="encoder.onnx.data",
            size_threshold=0,
        )
        (folder / DECODER_FILE).write_bytes(GREY.decoder_graph().SerializeToString())
        (folder / SCORER_FILE).write_bytes(GREY.scorer_graph().SerializeToString())

    bundle = write_bundle(tmp_path / "tiny", GREY.manifest(), write_graphs)
    assert (bundle.folder / "encoder.onnx.data").stat().st_size > 0
    with pytest.raises(
        BundleError, match=r"tiny/1/encoder\.onnx has external data \(tensor '.*'\), which no checksum covers; save"
    ):
        OnnxModel.load(bundle)
