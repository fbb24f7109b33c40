"""Batch extraction of many images, in parts of which each is written once, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from partedvae.common.progress import progress_bar
from partedvae.results import plural
from partedvae.serving.bundle import SCORER_FILE
from partedvae.serving.errors import InvalidInputError, ServingError
from partedvae.serving.extract.engine import Engine
from partedvae.serving.extract.layout import DEFAULT_INCLUDE, Include, Layout, parse_include
from partedvae.serving.extract.output.destination import delete_partial
from partedvae.serving.extract.output.feature_files import names_in
from partedvae.serving.extract.output.identity import identity_of
from partedvae.serving.extract.output.join import join
from partedvae.serving.extract.output.output import READERS, Found, Output, inspect
from partedvae.serving.extract.output.parts import PartFiles
from partedvae.serving.extract.output.shards import PART_PREFIX, Plan, default_rows_per_part, is_part
from partedvae.serving.extract.sources.source import Source
from partedvae.serving.extract.summary import Counts, Summary, total
from partedvae.v1.manifest_pb2 import Manifest

Say = Callable[[str], None]


class TooManyUnreadableError(ServingError):
    """More images cannot be read than `Options.max_errors`."""


class Model(Protocol):
    """What an extraction has to know of a model; every `Extractor` is one."""

    name: str
    version: int
    manifest: Manifest
    precision: str
    has_familiarity: bool


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of an extraction."""

    include: tuple[str, ...] | None = None
    """Columns, values of `Include`; None for `DEFAULT_INCLUDE`, without "unfamiliar" if the model does not know it."""
    additional: tuple[str, ...] = ()
    """Columns beside these."""
    familiarity: bool = True
    """Whether the default has "unfamiliar"."""
    vectors: bool = False
    """See `Layout.vectors`."""
    rows_per_part: int | None = None
    """None for `default_rows_per_part`."""
    path_style: str = "relative"
    """How the source writes paths, for the record."""
    given: str = ""
    """INPUT of the command, without credentials, for the record."""
    resume: bool | None = None
    """See `inspect`."""
    retry_errors: bool = False
    """See `inspect`."""
    overwrite: bool = False
    """See `inspect`."""
    max_errors: int | None = None
    """Unreadable images with which the extraction goes on; None for any number."""


def plan_parts(source: Source, model: Model, output: Output, options: Options) -> PartFiles:
    """Return the parts of an extraction, which depend on nothing but the arguments.

    Raises:
        InvalidInputError: the model does not have a column, or two columns have the same name.
    """
    layout = Layout(
        key=source.key,
        columns=source.columns,
        manifest=model.manifest,
        include=_include(model, options),
        vectors=options.vectors or output.holds_vectors,
    )
    layout.check_names(names_in(f".{output.format}", layout))
    rows = len(source)
    rows_per_part = default_rows_per_part(rows) if options.rows_per_part is None else options.rows_per_part
    plan = Plan(rows=rows, rows_per_part=rows_per_part, suffix=output.part_suffix)
    identity = identity_of(
        model=model.name,
        version_=model.version,
        manifest=model.manifest,
        precision=model.precision,
        layout=layout,
        input_sha256=source.manifest_hash,
        plan=plan,
        path_style=options.path_style,
        output_format=output.format,
        given=options.given,
    )
    return PartFiles(destination=output.parts, plan=plan, layout=layout, identity=identity)


def extract(
    source: Source, model: Model, output: Output, options: Options, engine: Engine, say: Say = lambda line: None
) -> Summary:
    """Write the features of all images of a source.

    Args:
        source: from `partedvae.serving.extract.sources.open.open_source`.
        model: the model, for the record and the columns.
        output: from `partedvae.serving.extract.output.output.parse_output`.
        options: further options.
        engine: writes the parts.
        say: receives lines on what is resumed and what is kept.

    Raises:
        ServingError: the output is that of something else, or another process writes it; the source cannot be read to
            its end, none of its images can be read, or more than `Options.max_errors` cannot. Parts that are complete
            are kept.
        PartedVAEError: the server failed; likewise.
        OSError: the output cannot be written; likewise.
    """
    started = time.monotonic()
    files = plan_parts(source, model, output, options)
    found = _inspect(output, files, options)
    if found.complete is None:
        try:
            with output.parts.locked():
                # Again, since another process may have ended in between.
                found = _inspect(output, files, options)
                if found.complete is None:
                    return _run(source, output, files, found, engine, options, say, started)
        finally:
            output.parts.remove()
    _tidy(output, found)
    say(f"{output.text} is complete already")
    _check_errors(found.complete, options.max_errors)
    return Summary(
        counts=found.complete,
        computed=0,
        parts=len(files.plan),
        done_before=len(files.plan),
        seconds=time.monotonic() - started,
        include=files.layout.include,
    )


def _run(
    source: Source,
    output: Output,
    files: PartFiles,
    found: Found,
    engine: Engine,
    options: Options,
    say: Say,
    started: float,
) -> Summary:
    """Write the missing parts, check all, and make one file of them where one is wanted."""
    plan = files.plan
    _delete_partial(output)
    for name in found.stale:
        files.destination.delete(name)
    counts = total(found.done.values())
    if found.done:
        say(f"resuming: {len(found.done):,} of {plural(len(plan), 'part')} are done")
    missing = [number for number in range(len(plan)) if number not in found.done]
    with (
        _keeping(output, files, say),
        progress_bar(plan.rows, unit="img", title="extract", done=counts.images) as bar,
    ):

        def report(more: Counts) -> None:
            counts.add(more)
            if more.unreadable:
                bar.set_postfix_str(f"{counts.unreadable:,} unreadable", refresh=False)
                _check_errors(counts, options.max_errors)
            bar.update(more.images)

        _check_errors(counts, options.max_errors)
        engine(source, files, missing, report)
        counts = _verified(output, files)
        if counts.unreadable < counts.images and output.name is not None:
            join(output, files, counts)
    if output.name is not None or counts.unreadable == counts.images:
        for name in plan.names():
            files.destination.delete(name)
    if counts.unreadable == counts.images:
        raise ServingError(
            f"none of the {counts.images:,} images could be read, {output.text} was not written; the first: "
            f"{counts.examples[0]}"
        )
    return Summary(
        counts=counts,
        computed=counts.images - total(found.done.values()).images,
        parts=len(plan),
        done_before=len(found.done),
        seconds=time.monotonic() - started,
        include=files.layout.include,
    )


def _inspect(output: Output, files: PartFiles, options: Options) -> Found:
    return inspect(output, files, resume=options.resume, overwrite=options.overwrite, retry_errors=options.retry_errors)


def _tidy(output: Output, found: Found) -> None:
    """Delete what a process has left that was killed when its output was complete."""
    if not found.stale and not any(name.startswith(".") for name in output.parts.names()):
        return
    with suppress(OSError, ServingError):  # It cannot be written, or the process still runs.
        with output.parts.locked():
            _delete_partial(output)
            for name in found.stale:
                output.parts.delete(name)
        output.parts.remove()


def _include(model: Model, options: Options) -> tuple[Include, ...]:
    """Return the columns, checked against what the model has."""
    include = options.include
    if include is None:
        known = options.familiarity and model.has_familiarity
        include = tuple(name for name in DEFAULT_INCLUDE if name != "unfamiliar" or known)
    include = parse_include((*include, *options.additional))
    if "unfamiliar" in include and not model.has_familiarity:
        raise InvalidInputError(
            f"version {model.version} of model {model.name!r} does not know the range of its training images, which "
            "'unfamiliar' needs; export the run again, or leave it out of --include"
        )
    scores = [name for name in include if name in ("negative_elbo", "reconstruction_error")]
    if scores and not any(file.name == SCORER_FILE for file in model.manifest.files):
        raise InvalidInputError(
            f"version {model.version} of model {model.name!r} has no {SCORER_FILE}, which {scores[0]!r} needs; export "
            "the run again, or leave it out of --include"
        )
    return include


def _check_errors(counts: Counts, limit: int | None) -> None:
    if limit is not None and counts.unreadable > limit:
        raise TooManyUnreadableError(
            f"more than {plural(limit, 'image')} could not be read (--max-errors); the first: {counts.examples[0]}"
        )


def _verified(output: Output, files: PartFiles) -> Counts:
    """Return the counts of all parts, read from them.

    Raises:
        ServingError: a part is missing, or has other rows than planned, or there are more.
    """
    with ThreadPoolExecutor(READERS, thread_name_prefix="partedvae-footers") as pool:
        parts = list(pool.map(files.counts_of, range(len(files.plan))))
    for number, part in enumerate(parts):
        if part is None:
            raise ServingError(
                f"{files.destination.path(files.plan.name(number))} is missing or damaged after it was written; run "
                "the command again"
            )
    others = {name for name in files.destination.names() if is_part(name)} - set(files.plan.names())
    if others:
        raise ServingError(
            f"{output.text} has parts of another extraction, which were written meanwhile ({min(others)}); delete "
            "them, and run the command again"
        )
    return total(part for part in parts if part is not None)


@contextmanager
def _keeping(output: Output, files: PartFiles, say: Say) -> Iterator[None]:
    """When the block fails, report what is kept."""
    try:
        yield
    except BaseException as error:
        how = (
            "pass a larger --max-errors" if isinstance(error, TooManyUnreadableError) else "run the same command again"
        )
        with suppress(OSError, ServingError):
            present = set(files.destination.names())
            done = sum(name in present for name in files.plan.names())
            if done:
                say(f"{done:,} of {plural(len(files.plan), 'part')} of {output.text} kept; {how} to go on")
        raise


def _delete_partial(output: Output) -> None:
    """Delete what a process which was killed has written aside; the lock is held."""
    delete_partial(output.parts, PART_PREFIX)
    if output.name is not None:
        delete_partial(output.folder, f"{output.name}.")
