"""The test images chosen from a folder: how many of each class, and that few change with its contents."""

from __future__ import annotations

from collections.abc import Sequence

from partedvae.training.data.hold_out import choose_test_images, hold_out, hold_out_unlabelled


def labels_of(rows: Sequence[tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Name images by their numbers."""
    return {f"imgs/{number:03}.png": row for number, row in enumerate(rows)}


def test_a_fifth_of_each_class_is_held_out_but_never_its_last_image() -> None:
    labels = labels_of([(0,)] * 30 + [(1,)] * 10 + [(2,)] * 2 + [(3,)] + [(-1,)] * 50)
    chosen = hold_out(labels)
    assert [sum(labels[file] == (c,) for file in chosen) for c in range(-1, 4)] == [0, 6, 2, 1, 0]
    crossed = labels_of([(0, 0), (0, 1), (1, 0), (1, 1)])
    left = [row for file, row in crossed.items() if file not in hold_out(crossed)]
    assert {first for first, _ in left} == {second for _, second in left} == {0, 1}


def test_the_choice_depends_on_names_and_labels_alone() -> None:
    labels = labels_of([(0,), (1,)] * 50)
    chosen = hold_out(labels)
    # Not the first ones: names often follow the classes or the time.
    assert len({file for file in chosen if file < "imgs/050"}) not in (0, len(chosen))
    assert hold_out(dict(reversed(labels.items()))) == chosen
    assert hold_out({"a/new.png": (-1,), **labels}) == chosen


def test_an_additional_labelled_image_moves_at_most_itself_and_another() -> None:
    labels = labels_of([(0,), (1,)] * 50)
    chosen = hold_out(labels)
    for number in range(20):
        more = hold_out({f"new/{number}.png": (0,), **labels})
        assert len(more ^ chosen) <= 2
    # Added images may be held out like any other.
    assert any(f"new/{number}.png" in hold_out({f"new/{number}.png": (0,), **labels}) for number in range(20))


def test_a_tenth_of_images_without_labels_is_held_out_but_at_least_two() -> None:
    names = [f"imgs/{number:03}.png" for number in range(100)]
    chosen = hold_out_unlabelled(names)
    assert len(chosen) == 10
    assert chosen < set(names)
    assert hold_out_unlabelled(names[::-1]) == chosen
    assert [len(hold_out_unlabelled(names[:count])) for count in (0, 3, 4, 24, 25, 36)] == [0, 0, 2, 2, 2, 4]


def test_images_without_a_label_test_where_few_labelled_ones_can() -> None:
    blank = {f"{number:02}.png": (-1,) for number in range(30)}
    one = {"a/0.png": (0,), "a/1.png": (0,)}
    chosen = choose_test_images({**blank, **one})
    assert hold_out(one) < chosen
    assert chosen - hold_out(one) == hold_out_unlabelled(blank)
    two = {**one, "b/0.png": (1,), "b/1.png": (1,)}
    assert choose_test_images({**blank, **two}) == hold_out(two)
