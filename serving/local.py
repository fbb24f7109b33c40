"""Models in this process, without a server, with the inputs, results and errors of `partedvae.Client`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike

from partedvae.arguments import check_choice, check_integer, check_path
from partedvae.class_choices import ClassSpec, class_by_factor, class_rows
from partedvae.common.memory import available_memory
from partedvae.errors import InvalidRequestError, ModelError
from partedvae.familiarity import warn_if_unfamiliar
from partedvae.image_chunks import chunks, locator
from partedvae.image_items import ImageInput
from partedvae.image_results import Generated, Transferred, Traversal
from partedvae.latents import LatentsOfU, latent_rows
from partedvae.model_results import ModelDetails
from partedvae.packing import Packing, RequestLimits
from partedvae.requests import (
    DEFAULT_INCLUDE,
    FeatureName,
    feature_names,
    generate_request,
    transfer_request,
    traversal_bases,
    traverse_request,
)
from partedvae.requests import Along as AlongName
from partedvae.results import Features, ImageArray, concatenate
from partedvae.serving.errors import BundleError, InvalidInputError, in_field
from partedvae.serving.images import from_message, memory_limits
from partedvae.serving.onnx.devices import Device
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.onnx.precision import Precision
from partedvae.serving.operations.features import classify, features
from partedvae.serving.operations.latents import decode, reconstruct
from partedvae.serving.operations.model import DirectModel, run_sync
from partedvae.serving.operations.sampling import generate, new_seed
from partedvae.serving.operations.transfer import ClassesOfU, ImagesOfU, SourceOfU, transfer, transposed
from partedvae.serving.operations.traverse import (
    REACH,
    STEPS,
    Along,
    AlongClasses,
    AlongU,
    AlongZ,
    Base,
    PriorBase,
    traverse,
)
from partedvae.serving.repository.loading import load_model
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.manifest_pb2 import Manifest
from partedvae.v1.tensors_pb2 import Images

T = TypeVar("T")

BYTES_PER_VALUE = 4
"""Memory per value of images that are decoded: the pieces of a result and their concatenation, with room to spare."""


def load(
    path: str | os.PathLike[str],
    version: int = 0,
    *,
    device: Device = "auto",
    threads: int | None = None,
    precision: Precision = "fp32",
) -> LocalModel:
    """Load an exported model into this process.

    Args:
        path: a model's folder `<models>/<name>`, or one of its version folders `<models>/<name>/<version>`.
        version: the version to load from a model's folder; 0 loads the newest that works.
        device: "cpu", "cuda", "tensorrt", or "auto", which uses CUDA if it is available and the CPU otherwise.
        threads: threads per run on the CPU; None uses all processors that this process may use.
        precision: "fp32", or "int8", which runs the encoder of 8-bit integers of a model that was exported with
            `--precision int8`, on the CPU.

    Raises:
        InvalidRequestError: an argument has another type or is out of range.
        BundleError: the folder is neither, the version does not exist or has no encoder of that precision, or none
            works.
        DeviceError: the requested device is not available, or cannot compute with that precision.
    """
    check_path("path", path)
    check_integer("version", version, 0)
    check_choice("device", device, get_args(Device))
    check_choice("precision", precision, get_args(Precision))
    if threads is not None:
        check_integer("threads", threads, 1)
    return LocalModel(load_model(Path(path), version, device=device, threads=threads, precision=precision))


class LocalModel:
    """A model in this process. Can be used from several threads.

    The methods are those of `partedvae.Client`, with the same arguments and results, but without a server's limits:
    images and results need only fit into the memory. They raise the same errors: `InvalidRequestError` for arguments
    and images that cannot be used, `ModelError` if scores are included and the model has no scorer, and `OSError` for
    files that cannot be read.

    Example:
        >>> model = load("models/mnist")  # doctest: +SKIP
        >>> model.features(["a.png", "b.png"]).classes  # doctest: +SKIP
    """

    def __init__(self, onnx_model: OnnxModel) -> None:
        """Wrap a loaded model; `load` is the usual way to create one."""
        self._model = DirectModel(onnx_model)
        self.info = ModelDetails(
            name=onnx_model.name,
            version=onnx_model.version,
            manifest=onnx_model.manifest,
            execution_provider=onnx_model.provider,
            precision=onnx_model.precision,
            has_scores=onnx_model.has_scores,
        )
        """What `Client.model_info` returns."""

    def __repr__(self) -> str:
        """Return name, version, and where and how the model runs."""
        return f"LocalModel({self.name}/{self.version}, {self.info.runs_on})"

    @property
    def name(self) -> str:
        """The model's name."""
        return self.info.name

    @property
    def version(self) -> int:
        """Its version."""
        return self.info.version

    @property
    def manifest(self) -> Manifest:
        """Image size, factors with their classes and priors, training, scores and checksums."""
        return self.info.manifest

    def features(self, images: ImageInput, *, include: Iterable[FeatureName] = DEFAULT_INCLUDE) -> Features:
        """Return the features of each image, in order; see `Client.features`."""
        names = feature_names(include)
        result = concatenate(self._for_each_chunk(images, lambda batch: features(self._model, batch, names)))
        warn_if_unfamiliar(self.info.unfamiliar(result))
        return result

    def classify(self, images: ImageInput, *, check_familiarity: bool = True) -> Features:
        """Return the class of each image by every factor; see `Client.classify`."""
        check = check_familiarity and self.info.has_familiarity
        result = concatenate(
            self._for_each_chunk(images, lambda batch: classify(self._model, batch, check_familiarity=check))
        )
        warn_if_unfamiliar(result.unfamiliar)
        return result

    def generate(self, count: int = 1, *, classes: ClassSpec | None = None, seed: int | None = None) -> Generated:
        """Return new images; see `Client.generate`."""
        named = class_by_factor({} if classes is None else classes, self.manifest)
        generate_request(pb.ModelSelector(), count, classes=named, seed=seed)  # Checks them as the client does.
        seed = new_seed() if seed is None else seed
        with _errors_of_client():
            return run_sync(generate(self._model, count, named, seed, self._max_images()))

    def reconstruct(self, images: ImageInput) -> ImageArray:
        """Return each image as the model reconstructs it; see `Client.reconstruct`."""
        return np.concatenate(self._for_each_chunk(images, lambda batch: reconstruct(self._model, batch)))

    def decode(self, u: LatentsOfU, z: ArrayLike) -> ImageArray:
        """Return the image of each row of latents; see `Client.decode`."""
        u_rows, z_rows = latent_rows(u, z, self.manifest)
        with _errors_of_client():
            return run_sync(decode(self._model, u_rows, z_rows, self._max_images()))

    def traverse(
        self,
        images: ImageInput | None = None,
        *,
        along: AlongName = "z",
        dimensions: Sequence[int] = (),
        factor: str = "",
        steps: int | None = None,
        reach: float | None = None,
        classes: ClassSpec | None = None,
        count: int | None = None,
        seed: int | None = None,
    ) -> Traversal:
        """Return images in which one latent dimension, or the class, changes along a row; see `Client.traverse`."""
        bases = None if images is None else traversal_bases(images, self._packing())
        request = traverse_request(
            pb.ModelSelector(),
            bases,
            along=along,
            dimensions=dimensions,
            factor=factor,
            steps=steps,
            reach=reach,
            classes=class_by_factor({} if classes is None else classes, self.manifest) or None,
            count=count,
            seed=seed,
        )
        changed: Along
        if along == "z":
            changed = AlongZ(dimensions=request.z.dimensions, steps=steps or STEPS, reach=reach or REACH)
        elif along == "u":
            changed = AlongU(factor=factor, dimensions=request.u.dimensions, steps=steps or STEPS, reach=reach or REACH)
        else:
            changed = AlongClasses(factor=factor)
        with _errors_of_client(locator({"": bases})):
            base: Base
            if bases is None:
                prior = request.prior
                base = PriorBase(
                    classes=dict(prior.classes), seed=new_seed() if seed is None else seed, count=prior.count
                )
            else:
                base = self._read(bases.images)
            return run_sync(traverse(self._model, base, changed, self._max_images()))

    def transfer(
        self,
        content: ImageInput | None = None,
        style: ImageInput | None = None,
        *,
        z_images: ImageInput | None = None,
        u_images: ImageInput | None = None,
        classes: Sequence[ClassSpec] | None = None,
        factors: Sequence[str] = (),
        pairs: bool = False,
    ) -> Transferred:
        """Return images that combine u of some images, or of classes, with z of others; see `Client.transfer`."""
        named: list[Mapping[str, str]] | None = None
        if classes is not None:
            named = [class_by_factor(item, self.manifest) for item in class_rows(classes)]
        request, sent = transfer_request(
            pb.ModelSelector(),
            content,
            style,
            self._packing(),
            z_images=z_images,
            u_images=u_images,
            classes=named,
            factors=factors,
            pairs=pairs,
        )
        former = request.HasField("content")
        with _errors_of_client(locator(sent)):
            read = {}
            for field, chunk in sent.items():
                with in_field(field):
                    read[field] = self._read(chunk.images)
            z = read["content" if former else "z_images"]
            source: SourceOfU
            if named is None:
                source = ImagesOfU(images=read["style_images" if former else "u_images"], factors=factors)
            else:
                source = ClassesOfU(choices=named)
            transferred = run_sync(transfer(self._model, z, source, pairs=pairs, max_images=self._max_images()))
        return transposed(transferred) if former and not pairs else transferred

    def _for_each_chunk(self, images: ImageInput, operation: Callable[[ImageArray], Coroutine[Any, Any, T]]) -> list[T]:
        """Run an operation on some images at a time, so that files are read and decoded as they are needed."""
        results = []
        for chunk in chunks(images, self._packing()):
            with _errors_of_client(chunk.locate):
                results.append(run_sync(operation(self._read(chunk.images))))
        return results

    def _read(self, message: Images) -> ImageArray:
        return from_message(message, self.manifest.image, memory_limits())

    def _packing(self) -> Packing:
        """Return how images are packed: not shrunk beforehand, since `from_message` decodes in several threads."""
        limits = memory_limits()
        unlimited = RequestLimits(
            max_message_bytes=sys.maxsize,
            max_images=limits.max_images,
            max_pixels=limits.max_pixels,
            max_request_pixels=limits.max_request_pixels,
        )
        return Packing.of(unlimited, self.manifest.image, shrink=False)

    def _max_images(self) -> int:
        """Return how many images can be decoded to the memory that is available."""
        image = self.manifest.image
        return max(1, available_memory() // (BYTES_PER_VALUE * image.height * image.width * image.channels))


@contextmanager
def _errors_of_client(locate: Callable[[str], str] = str) -> Iterator[None]:
    """Raise the errors that the client raises for the same failure.

    Args:
        locate: replaces "image N" of a chunk by its position in the call, and the name of its file.
    """
    try:
        yield
    except InvalidInputError as error:
        raise InvalidRequestError(locate(str(error))) from error
    except BundleError as error:
        raise ModelError(str(error)) from error
