"""Drawing of faces: a table of attributes, and the avatar for a row of attribute values.

Drawing requires the packages of the extra `faces`. This module does not import PyTorch, so that worker processes start
fast.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Attribute:
    """An attribute that differs between faces."""

    values: tuple[str, ...]
    """Class names if the attribute is a labelled factor, part names or colours otherwise."""
    probabilities: tuple[float, ...] = ()
    """Probabilities of the values; empty if all are equally probable."""


LABELLED: dict[str, Attribute] = {
    "hair_color": Attribute(("black", "brown", "blond", "red", "gray"), (0.30, 0.25, 0.20, 0.13, 0.12)),
    "hair": Attribute(("bald", "short", "long"), (0.15, 0.45, 0.40)),
    "skin_tone": Attribute(("light", "medium", "dark"), (0.5, 0.3, 0.2)),
    "facial_hair": Attribute(("none", "mustache", "beard"), (0.55, 0.20, 0.25)),
    "glasses": Attribute(("none", "eyeglasses", "sunglasses"), (0.65, 0.20, 0.15)),
    "smiling": Attribute(("not smiling", "smiling"), (0.47, 0.53)),
    "hat": Attribute(("no hat", "hat"), (0.85, 0.15)),
}
"""The labelled factors in CelebA's terms, with their classes and p(c)."""

VISIBLE: dict[str, Attribute] = {
    "background": Attribute(("#B4D8E7", "#F2E3C6", "#CFE5C2", "#E6CFE2", "#9AA7B8", "#F7F7F7")),
    "clothing": Attribute(("SHIRT_CREW_NECK", "SHIRT_V_NECK", "SHIRT_SCOOP_NECK", "HOODIE", "BLAZER_SHIRT")),
    "clothing_color": Attribute(
        ("#262E33", "#5199E4", "#25557C", "#929598", "#3FA66B", "#E2574C", "#F2F2F2", "#E8B84A")
    ),
    "eyebrows": Attribute(
        ("DEFAULT_NATURAL", "RAISED_EXCITED_NATURAL", "FLAT_NATURAL", "SAD_CONCERNED_NATURAL", "ANGRY_NATURAL")
    ),
    "nose": Attribute(("DEFAULT", "SMALL", "WIDE")),
}
"""Unlabelled attributes that are visible in (nearly) every image."""

VARIANTS: dict[str, Attribute] = {
    "skin_shade": Attribute(("0", "1")),
    "short_hair": Attribute(
        ("SHORT_FLAT", "SHORT_ROUND", "SHORT_WAVED", "SHORT_CURLY", "CAESAR", "CAESAR_SIDE_PART", "QUIFF", "PIXIE")
    ),
    "long_hair": Attribute(
        ("BIG_HAIR", "BOB", "CURVY", "LONG_NOT_TOO_LONG", "MIA_WALLACE", "STRAIGHT_1", "STRAIGHT_STRAND", "DREADS")
    ),
    "hat_style": Attribute(("HAT", "TURBAN", "WINTER_HAT_1", "WINTER_HAT_2", "WINTER_HAT_3", "WINTER_HAT_4")),
    "hat_color": Attribute(("#3C4F5C", "#5199E4", "#E2574C", "#3FA66B", "#8E6BBF", "#E8B84A")),
    "beard": Attribute(("BEARD_LIGHT", "BEARD_MEDIUM", "BEARD_MAGESTIC")),
    # The other mustaches hide the mouth, and with it the smile.
    "mustache": Attribute(("MOUSTACHE_FANCY",)),
    "eyeglasses": Attribute(("PRESCRIPTION_2", "ROUND")),
    "sunglasses": Attribute(("SUNGLASSES", "WAYFARERS", "SUNGLASSES_2", "WAYFARERS_2")),
    "smile": Attribute(("SMILE", "BIG_SMILE")),
    "no_smile": Attribute(("SERIOUS", "SAD", "DISBELIEF")),
    "eyes": Attribute(("DEFAULT", "HAPPY", "SIDE", "SQUINT", "SURPRISED", "CLOSED")),
}
"""Unlabelled variants of a class, visible only in images of that class."""

ATTRIBUTES: dict[str, Attribute] = {**LABELLED, **VISIBLE, **VARIANTS}
"""All attributes: the columns of a table of faces."""
HAIR_COLORS = {"black": "#211815", "brown": "#6B3A1E", "blond": "#E0BC68", "red": "#C5401A", "gray": "#DAD7D7"}
BEARD_COLORS = {"black": "#17110F", "brown": "#4F2A15", "blond": "#B58B3C", "red": "#97300F", "gray": "#B4B0B0"}
"""A shade darker than the hair, as a blond beard on light skin would be invisible."""
SKIN_COLORS = {
    "light": ("#FFDBB4", "#F3C79D"),
    "medium": ("#D08B5B", "#C9925F"),
    "dark": ("#8F5A3C", "#7A4A30"),
}
AMOUNTS: tuple[tuple[str, str, str, str, tuple[float, ...]], ...] = (
    ("size", "facial_hair", "beard", "beard", (0, 1, 2)),
    ("width", "smiling", "smiling", "smile", (0, 1)),
    ("lightness", "skin_tone", "light", "skin_shade", (1, 0)),
    ("lightness", "skin_tone", "dark", "skin_shade", (1, 0)),
)
"""Amounts that differ within a class: name, factor, class, the variant that sets the amount, and the amount of each of
its values. The other variants have no order: the two medium shades of skin differ in hue, long hair in its style."""
VIEWS = {(64, 64): (24, 10, 216, 216), (218, 178): (34, 8, 196, 240)}
"""Visible part of the avatar's 264 x 280 canvas (x, y, width, height), by height and width of the image."""

_HEADER = 'width="264px" height="280px" viewBox="0 0 264 280"'
"""Part of the first line of every avatar; replaced to show a part of the canvas."""


def sample_faces(count: int, seed: int) -> NDArray[np.int64]:
    """Sample attribute values, each attribute independently: [count, attributes].

    Row i depends on the seed and the table alone, not on the count.
    """
    uniform = np.random.Generator(np.random.PCG64(seed)).random((count, len(ATTRIBUTES)))
    columns = []
    for column, attribute in enumerate(ATTRIBUTES.values()):
        size = len(attribute.values)
        edges = np.cumsum(attribute.probabilities or (1 / size,) * size)[:-1]
        columns.append(np.searchsorted(edges, uniform[:, column], side="right"))
    return np.stack(columns, axis=1)


def amounts(values: NDArray[np.int64]) -> list[tuple[str, str, str, NDArray[np.float64]]]:
    """Return the `AMOUNTS` of faces: name, factor, class, and one value per face, NaN for those of other classes.

    Args:
        values: attribute values [count, attributes].
    """
    column = {name: k for k, name in enumerate(ATTRIBUTES)}
    found = []
    for name, factor, label, variant, table in AMOUNTS:
        member = values[:, column[factor]] == ATTRIBUTES[factor].values.index(label)
        amount = np.where(member, np.array(table, dtype=np.float64)[values[:, column[variant]]], np.nan)
        found.append((name, factor, label, amount))
    return found


def table_digest(values: NDArray[np.int64], size: tuple[int, int]) -> str:
    """Return 12 hexadecimal digits that identify the images of these faces."""
    tables = [repr(ATTRIBUTES), json.dumps([HAIR_COLORS, BEARD_COLORS, SKIN_COLORS]), repr(VIEWS[size])]
    return hashlib.sha256("\n".join(tables).encode() + values.astype("<i8").tobytes()).hexdigest()[:12]


def draw_faces(task: tuple[NDArray[np.int64], tuple[int, int]]) -> NDArray[np.uint8]:
    """Draw faces as uint8 [count, height, width, 3].

    Args:
        task: attribute values [count, attributes], and height and width of the images.
    """
    values, size = task
    return np.stack([_draw({name: int(v) for name, v in zip(ATTRIBUTES, row, strict=True)}, size) for row in values])


def _draw(face: Mapping[str, int], size: tuple[int, int]) -> NDArray[np.uint8]:
    import resvg_py

    height, width = size
    view = " ".join(str(edge) for edge in VIEWS[size])
    svg = _svg(face)
    assert _HEADER in svg, "python-avatars has another canvas than version 1.4.1"
    svg = svg.replace(_HEADER, f'width="{width}" height="{height}" viewBox="{view}"', 1)
    background = VISIBLE["background"].values[face["background"]]
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=width, height=height, background=background, skip_system_fonts=True
    )
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def _svg(face: Mapping[str, int]) -> str:
    """Return the avatar as SVG. Every argument is set, as some defaults are random choices made at import."""
    import python_avatars as pa

    def value(name: str) -> str:
        return ATTRIBUTES[name].values[face[name]]

    def part(parts: Mapping[str, str], kind: str) -> str:
        return value(parts[value(kind)]) if value(kind) in parts else "NONE"

    if value("hat") == "hat":
        top = pa.HatType[value("hat_style")]
    else:
        top = pa.HairType[part({"short": "short_hair", "long": "long_hair"}, "hair")]
    svg: str = pa.Avatar(
        style=pa.AvatarStyle.TRANSPARENT,
        background_color="#FFFFFF",  # not shown: the rasteriser fills the background
        top=top,
        hat_color=value("hat_color"),
        eyebrows=pa.EyebrowType[value("eyebrows")],
        eyes=pa.EyeType[value("eyes")],
        nose=pa.NoseType[value("nose")],
        mouth=pa.MouthType[part({"smiling": "smile", "not smiling": "no_smile"}, "smiling")],
        facial_hair=pa.FacialHairType[part({"mustache": "mustache", "beard": "beard"}, "facial_hair")],
        skin_color=SKIN_COLORS[value("skin_tone")][face["skin_shade"]],
        hair_color=HAIR_COLORS[value("hair_color")],
        facial_hair_color=BEARD_COLORS[value("hair_color")],
        accessory=pa.AccessoryType[part({"eyeglasses": "eyeglasses", "sunglasses": "sunglasses"}, "glasses")],
        clothing=pa.ClothingType[value("clothing")],
        clothing_color=value("clothing_color"),
        shirt_graphic=pa.ClothingGraphic.NONE,
        shirt_text="",
        title=None,
    ).render()
    return svg
