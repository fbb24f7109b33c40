"""Counts the modules of each package and the imports between them.

    python -m tests.structure [FOLDER]

For each package, the table shows:

- modules: its direct children, files and subpackages;
- arrows: pairs of children of which one imports the other, or a module below it;
- backward: how many of these arrows must be removed until the children can be ordered without cycles;
- cyclic: children that are part of a cycle.

FOLDER is a checkout other than this one, whose packages may be at its top.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import click
import grimp

from partedvae.common.click_paths import LocalPath

PACKAGES = ("training", "serving", "partedvae")


@dataclass(frozen=True, kw_only=True)
class Structure:
    """The counts of one package."""

    modules: int
    arrows: int
    backward: int
    cyclic: tuple[str, ...]


def structure(graph: grimp.ImportGraph, package: str, *, apart_from: frozenset[str] = frozenset()) -> Structure:
    """Count the direct children of a package and the imports between them.

    Args:
        graph: imports of the root package.
        package: package to describe.
        apart_from: children that are left out.
    """
    children = sorted(graph.find_children(package) - apart_from)
    arrows = {
        (importer, imported)
        for importer, imported in permutations(children, 2)
        if graph.direct_import_exists(importer=importer, imported=imported, as_packages=True)
    }
    breakers = graph.nominate_cycle_breakers(package)
    backward = {(_child(package, importer), _child(package, imported)) for importer, imported in breakers} & arrows
    return Structure(
        modules=len(children), arrows=len(arrows), backward=len(backward), cyclic=_cyclic(children, arrows)
    )


def _child(package: str, module: str) -> str:
    """Return the child of a package that is a module, or contains it."""
    return f"{package}.{module.removeprefix(f'{package}.').partition('.')[0]}"


def _cyclic(children: list[str], arrows: set[tuple[str, str]]) -> tuple[str, ...]:
    """Return the children from which a path of arrows leads back to them."""
    reachable = {child: {imported for importer, imported in arrows if importer == child} for child in children}
    for middle in children:
        for child in children:
            if middle in reachable[child]:
                reachable[child] |= reachable[middle]
    return tuple(child.rpartition(".")[2] for child in children if child in reachable[child])


@click.command()
@click.argument("folder", type=LocalPath(exists=True, path_type=Path), default=Path(__file__).parents[1])
def main(folder: Path) -> None:
    """Print the counts of the packages in a checkout."""
    sys.path.insert(0, str(folder.resolve()))
    row = "{:20} {:>8} {:>8} {:>9}  {}"
    click.echo(row.format("package", "modules", "arrows", "backward", "cyclic"))
    nested = (folder / "partedvae" / "training").exists()
    graphs = {name: grimp.build_graph("partedvae" if nested else name, cache_dir=None) for name in PACKAGES}
    for name in PACKAGES:
        package = f"partedvae.{name}" if nested and name != "partedvae" else name
        # Training, serving and export have rows of their own.
        apart_from = frozenset(f"partedvae.{other}" for other in ("training", "serving", "export"))
        counts = structure(graphs[name], package, apart_from=apart_from)
        click.echo(row.format(package, counts.modules, counts.arrows, counts.backward, ", ".join(counts.cyclic) or "-"))


if __name__ == "__main__":
    main()
