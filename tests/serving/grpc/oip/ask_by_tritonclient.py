"""Asks a server of the model `tiny` (tests.bundles.GREY) by tritonclient; writes what came into an .npz file.

Usage: python ask_by_tritonclient.py HOST:PORT IMAGES.npy FILES.npy OUTPUT.npz

Prints the status and the message that images of another size are answered with.

Runs in an environment of its own (`make test-tritonclient`): tritonclient brings the same messages as partedvae.oip,
and two copies of them in one process clash in protobuf's registry.
"""

from __future__ import annotations

import sys

import numpy as np
import tritonclient.grpc as triton


def main(address: str, images_file: str, files_file: str, output: str) -> None:
    """Ask for readiness, metadata, features of pixels and of files, and images; write the arrays."""
    client = triton.InferenceServerClient(address)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny.encoder")
    assert client.is_model_ready("tiny.decoder", "1")
    assert not client.is_model_ready("nobody.encoder")
    assert client.get_server_metadata().name == "partedvae"
    metadata = client.get_model_metadata("tiny.encoder")
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs] == [
        ("images", "UINT8", [-1, 8, 6, 1])
    ]
    assert [model.name for model in client.get_model_repository_index().models] == ["tiny.encoder", "tiny.decoder"]

    images, files = np.load(images_file), np.load(files_file, allow_pickle=True)
    features = infer(client, "tiny.encoder", {"images": images}, ["digit.u_mean", "z_mean"])
    of_files = infer(client, "tiny.encoder", {"images": files}, ["digit.u_mean"])
    latents = {"u": features.as_numpy("digit.u_mean"), "z": features.as_numpy("z_mean")}
    reply = infer(client, "tiny.decoder", latents, ["images"])
    np.savez(output, **latents, u_of_files=of_files.as_numpy("digit.u_mean"), images=reply.as_numpy("images"))

    try:
        infer(client, "tiny.encoder", {"images": images[:, :-1]}, ["z_mean"])
    except triton.InferenceServerException as error:
        print(error.status(), error.message())


def infer(
    client: triton.InferenceServerClient, model: str, arrays: dict[str, np.ndarray], outputs: list[str]
) -> triton.InferResult:
    """Run a model on arrays."""
    inputs = []
    for name, array in arrays.items():
        datatype = {"u": "UINT8", "f": "FP32", "O": "BYTES"}[array.dtype.kind]
        tensor = triton.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return client.infer(model, inputs, outputs=[triton.InferRequestedOutput(name) for name in outputs])


if __name__ == "__main__":
    main(*sys.argv[1:])
