"""Helpers of the fault tests: requests with known replies, and background load."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Self

import grpc
import numpy as np

from partedvae.tensors import float_tensor
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import Images, PackedImages
from tests.bundles import GREY, TinyModel
from tests.processes import ServerProcess
from tests.scraping import metrics_of


def images_message(count: int, seed: int = 0) -> Images:
    """Return random images of `GREY`'s size."""
    images = GREY.random_images(count, seed)
    return Images(packed=PackedImages(data=images.tobytes(), shape=images.shape))


def features_request(count: int, seed: int = 0) -> pb.ExtractFeaturesRequest:
    """Return a request for the features of random images."""
    return pb.ExtractFeaturesRequest(images=images_message(count, seed))


def decode_request(count: int) -> pb.DecodeRequest:
    """Return a request for the images of random latents."""
    u, z = GREY.random_latents(count)
    return pb.DecodeRequest(u=float_tensor(u), z=float_tensor(z))


def assert_features(
    reply: pb.ExtractFeaturesResponse, count: int, seed: int = 0, models: Mapping[int, TinyModel] | None = None
) -> None:
    """Check that a reply belongs to `features_request` with the same arguments.

    Args:
        reply: the reply.
        count: number of images.
        seed: seed of the images.
        models: model of each version; None if all versions are `GREY`.
    """
    model = models[reply.model.version] if models else GREY
    expected = model.encode(GREY.random_images(count, seed))
    (factor,) = reply.factors
    for tensor, name in ((factor.probs, "digit.probs"), (factor.u_mean, "digit.u_mean")):
        found = np.frombuffer(tensor.data, "<f4").reshape(tensor.shape)
        np.testing.assert_allclose(found, expected[name], atol=1e-5, err_msg=name)


def resident_bytes(server: ServerProcess) -> float:
    """Return the memory of a server started with `tests.scraping.METRICS`, in bytes."""
    return metrics_of(server)["process_resident_memory_bytes{}"]


def wait_until_still(value: Callable[[], int]) -> None:
    """Wait until a value has not changed for a second."""
    seen, since = value(), time.monotonic()
    while time.monotonic() - since < 1:
        time.sleep(0.02)
        if value() != seen:
            seen, since = value(), time.monotonic()


class Load:
    """Clients that make calls without pause within the block, each on its own connection."""

    def __init__(self, address: str, models: Mapping[int, TinyModel] | None = None, callers: int = 4) -> None:
        """Create clients.

        Args:
            address: HOST:PORT of the server.
            models: as for `assert_features`.
            callers: number of clients.
        """
        self.codes: Counter[str] = Counter()
        """Replies by status code; "WRONG" are those with the numbers of another request or version."""
        self.versions: Counter[int] = Counter()
        """Correct replies by version."""
        self.problems: list[str] = []
        """Descriptions of the first failures."""
        self._address = address
        self._models = models
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop making calls, and wait for the active ones."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with grpc.insecure_channel(self._address) as channel:
            stub = PartedVAEServiceStub(channel)
            turn = 0
            while not self._stopped.is_set():
                turn += 1
                count, seed = (1, 3, 40)[turn % 3], 1000 * number + turn % 10
                code, version, problem = "OK", 0, ""
                try:
                    reply = stub.ExtractFeatures(features_request(count, seed))
                    version = reply.model.version
                    assert_features(reply, count, seed, self._models)
                except grpc.RpcError as error:
                    code, problem = error.code().name, error.details() or ""
                except AssertionError as error:
                    code, problem = "WRONG", str(error)
                with self._lock:
                    self.codes[code] += 1
                    if problem:
                        self.problems = [*self.problems, problem][:3]
                    else:
                        self.versions[version] += 1
