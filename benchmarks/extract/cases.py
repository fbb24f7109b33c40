"""What is measured with each input: its bound, our command in several ways, and other ways to do the same."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.extract.inputs import Input
from partedvae.serving.bundle import Bundle

PROGRAMS = "benchmarks.extract.programs"
OURS = "partedvae extract"
BOUND = "bound"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A program and its input."""

    source: Input
    name: str
    """Shown in the table."""
    arguments: tuple[str, ...]
    """Module of Python and its arguments; OUTPUT stands for a new path."""
    bound: str = ""
    """Name of the case of the same input that no extraction can exceed; empty for the bounds themselves."""
    inference: str = ""
    """Of files: name of the case of the array that runs the same graphs, which share the processors with decoding."""
    front: str | None = None
    """Front of the server that it needs; its address takes the place of ADDRESS."""


ORT, ORT_FAMILIARITY = "ONNX Runtime alone, encoder", "ONNX Runtime alone, encoder and scorer"
DECODING = "Pillow alone, decoding and resizing"
LOCAL, LOCAL_FAMILIARITY = f"{OURS} --model --no-familiarity", f"{OURS} --model"


def cases_of(source: Input, bundle: Bundle, fronts: tuple[str, ...]) -> list[Case]:
    """Return the cases of an input.

    Args:
        source: the input.
        bundle: the model.
        fronts: fronts of the server to measure.
    """
    folder, path = str(bundle.folder), str(source.path)
    ours = ("partedvae", "extract", path, "--output", "OUTPUT.parquet")
    local = (*ours, "--model", folder)
    remote = (*ours, "--server", "ADDRESS", "--model-name", bundle.name)
    fast = "--no-familiarity"
    is_array = source.kind == "array"

    def case(name: str, *arguments: str, bound: str = "", inference: str = "", front: str | None = None) -> Case:
        inference = "" if is_array else inference
        return Case(source=source, name=name, arguments=arguments, bound=bound, inference=inference, front=front)

    bound = ORT if is_array else DECODING
    if is_array:
        result = [
            case(ORT, f"{PROGRAMS}.ort_alone", folder, path),
            case(ORT_FAMILIARITY, f"{PROGRAMS}.ort_alone", folder, path, "--familiarity"),
        ]
    else:
        result = [case(DECODING, f"{PROGRAMS}.decode_alone", folder, path)]
    result += [
        case(LOCAL, *local, fast, bound=bound, inference=ORT),
        case(
            LOCAL_FAMILIARITY,
            *local,
            bound=ORT_FAMILIARITY if is_array else DECODING,
            inference=ORT_FAMILIARITY,
        ),
        *(
            case(f"{OURS} --server --no-familiarity, {front} front", *remote, fast, bound=LOCAL, front=front)
            for front in fronts
        ),
        case(
            "torch DataLoader and ONNX Runtime",
            *(f"{PROGRAMS}.dataloader", folder, path, "OUTPUT.parquet"),
            bound=bound,
            inference=ORT,
        ),
    ]
    if find_spec("ray") is not None and not is_array:
        ray = (f"{PROGRAMS}.ray_data", folder, path, "OUTPUT")
        result.append(case("Ray Data, read_images and map_batches", *ray, bound=bound, inference=ORT))
    return result


def with_values(case: Case, output: Path, address: str) -> list[str]:
    """Return the arguments of a case with an output and a server."""
    values = {"ADDRESS": address, "OUTPUT": str(output), "OUTPUT.parquet": f"{output}.parquet"}
    return [values.get(argument, argument) for argument in case.arguments]
