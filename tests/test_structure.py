"""Tests of the counts that `tests.structure` prints."""

from __future__ import annotations

import grimp

from tests.structure import Structure, structure


def graph_of(*imports: tuple[str, str]) -> grimp.ImportGraph:
    """Return the graph of a package `p` with these imports, a pair of importer and imported module each."""
    graph = grimp.ImportGraph()
    for module in {"p", *(module for pair in imports for module in pair)}:
        parts = module.split(".")
        for length in range(1, len(parts) + 1):
            graph.add_module(".".join(parts[:length]))
    for importer, imported in imports:
        graph.add_import(importer=importer, imported=imported)
    return graph


def test_arrows_are_counted_between_direct_children() -> None:
    """Several imports between the same children are one arrow, and imports inside a child are none."""
    graph = graph_of(("p.a.x", "p.b"), ("p.a.y", "p.b"), ("p.a.x", "p.a.y"), ("p.b", "p.c"))
    assert structure(graph, "p") == Structure(modules=3, arrows=2, backward=0, cyclic=())


def test_cycles() -> None:
    """An arrow that closes a cycle is backward, and the children of the cycle are listed, but not their users."""
    graph = graph_of(("p.a", "p.b"), ("p.a", "p.c.x"), ("p.b", "p.c.y"), ("p.c.x", "p.b"), ("p.user", "p.a"))
    assert structure(graph, "p") == Structure(modules=4, arrows=5, backward=1, cyclic=("b", "c"))


def test_children_can_be_left_out() -> None:
    graph = graph_of(("p.a", "p.b"), ("p.b", "p.c"))
    assert structure(graph, "p", apart_from=frozenset({"p.c"})) == Structure(modules=2, arrows=1, backward=0, cyclic=())
