"""Files of the registered data sets that both training and batch extraction read."""

from __future__ import annotations

from pathlib import Path

IDX_IMAGES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
"""Images of the splits of MNIST and of data sets in its format."""
IDX_LABELS = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}
FACES = {"faces": "64x64", "faces-large": "218x178"}
"""Height and width of the drawn faces."""
PACKED_SPRITES = "packed-*.npy"
"""The images of dSprites, one bit per pixel."""
SPLITS: dict[str, tuple[str, ...]] = {
    "mnist": ("train", "test"),
    "fashion-mnist": ("train", "test"),
    "faces": ("train", "test"),
    "faces-large": ("train", "test"),
    "dsprites": ("train",),
}
"""The data sets whose images are in one file per split."""


def find_images_of(name: str, split: str, data_dir: Path) -> Path | None:
    """Return the file with the images of a split; None if there is none.

    Args:
        name: the data set, one of `SPLITS`.
        split: one of its splits.
        data_dir: folder of the data sets.
    """
    if name in FACES:
        patterns = [f"faces/{split}-{FACES[name]}-*.npy"]
    elif name == "dsprites":
        patterns = [f"dsprites/{PACKED_SPRITES}"]
    else:
        patterns = [f"{name}/{IDX_IMAGES[split]}", f"{name}/{IDX_IMAGES[split]}.gz"]
    for pattern in patterns:
        # Of several versions of drawn faces, the one that was drawn last.
        found = sorted(data_dir.glob(pattern), key=lambda path: path.stat().st_mtime_ns)
        if found:
            return found[-1]
    return None
