"""The measures of a run as text tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from partedvae.common.text_tables import table_lines
from partedvae.training.evaluation.measures import Measures
from partedvae.training.evaluation.metrics.generation import Generation
from partedvae.training.evaluation.metrics.probes import Separation

MANY_CLASSES = 12
"""Classes per line of the table by class."""


def measure_lines(measures: Measures) -> Iterator[str]:
    """Yield the tables of a run's measures, each after an empty line."""
    if measures.generations:
        yield from ("", *_generation_lines(measures.generations))
    if measures.no_oracle:
        yield from ("", measures.no_oracle)
    if measures.separations:
        yield from ("", *_separation_lines(measures.separations))
    if measures.amounts:
        yield from (
            "",
            "R^2 of the true amount, which no label has: high from u if u has it, 0 or less if it is not there",
        )
        rows = [
            (f"{a.amount} of {a.factor} {a.label!r}", f"{a.u:.2f}", f"{a.z:.2f}", f"{a.rows:,}")
            for a in measures.amounts
        ]
        yield from table_lines([("amount", "from u", "from z", "images"), *rows], right=True)


def _generation_lines(generations: Sequence[Generation]) -> Iterator[str]:
    yield "share of decoded images that an oracle (a classifier of its own, with all labels) sees as the intended class"
    rows = [
        (
            g.factor,
            _percent(g.mean),
            "–" if g.worst is None else f"{g.worst[1]:.1%} ({g.worst[0]})",
            _percent(g.exchange),
            _percent(g.redraw),
            _percent(g.reconstruction),
            "–" if g.diversity is None else f"{g.diversity:.2f}",
            _percent(g.oracle),
        )
        for g in generations
    ]
    titles = ("factor", "drawn", "worst class", "z exchanged", "z redrawn", "reconstructed", "diversity", "oracle")
    yield from table_lines([titles, *rows], right=True)
    for g in generations:
        if g.classes is not None:
            shares = [f"{label} {share:.0%}" for label, share in g.classes.items()]
            for start in range(0, len(shares), MANY_CLASSES):
                prefix = f"{g.factor} drawn: " if start == 0 else "  "
                yield prefix + ", ".join(shares[start : start + MANY_CLASSES])
    yield "drawn: u ~ p(u | class), z ~ N(0, I); exchanged: u of a test image, z of another; redrawn: z ~ N(0, I);"
    yield "diversity: variance within a class over that of test images; oracle: its own accuracy on test images"


def _separation_lines(separations: Sequence[Separation]) -> Iterator[str]:
    yield "accuracy of probes of the class: high from u, and near chance from z if z does not have the class"
    rows = []
    for s in separations:
        for name, u, z in (("means", s.u, s.z), ("samples", s.u_samples, s.z_samples)):
            cells = (u.linear, u.mlp, z.linear, z.mlp, s.chance)
            rows.append((s.factor, name, *map(_percent, cells), f"{s.rows:,}"))
    titles = ("factor", "of", "u linear", "u network", "z linear", "z network", "chance", "images")
    yield from table_lines([titles, *rows], right=True)
    for s in separations:
        if s.folds:
            yield (
                f"{s.factor}: {s.folds}-fold cross-validation on {s.rows:,} labelled images, "
                f"{s.rows - s.train_images:,} for testing and {s.train_images:,} for training"
            )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
