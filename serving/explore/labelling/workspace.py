"""The folder whose images are labelled: their labels and their order, and which visitor has which image."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from partedvae.common.data_error import DataError
from partedvae.common.file_names import printable
from partedvae.common.image_folder import find_images
from partedvae.common.label_table import in_order
from partedvae.common.labels_file import LabelsFile
from partedvae.common.listed_names import read_listed
from partedvae.common.tables import normalised
from partedvae.serving.explore.labelling.keys import keys_of
from partedvae.serving.explore.labelling.process import CommandProcess

ANY = ""
"""In place of a factor: a label of any factor counts."""
FEWEST_RANKED = 10
"""Labels after which images are ranked again, at least; as many as there are classes, if these are more. Few: each of
the images that are ranked together is of a group of its own, and the first of many would be of the largest groups,
which may be of one class. Ten are what `partedvae reproduce group-labels` measures."""
RANKED_SHARE = 0.25
"""The same as a share of the labels, which bounds the number of rankings."""
SHOWN = 60
"""Characters of an unexpected output that are shown."""
SPARE = 4
"""Images to go on with while they are ranked again. The first ranking has none: with more groups than labels, those of
the smallest groups, which may be the only ones of a class, would not be labelled."""


class Workspace:
    """What all visitors of the page share. Used from the event loop alone.

    Attributes:
        folder: the folder.
        names: its images; pages name them by their position.
        labels: the labels as they were read or written last.
        ranker: the command `suggest`.
        trainer: the command `train`.
        features_run: the run of features by which they are ranked; empty where there is none.
        problem: why the images could not be ranked; empty where they could.
        version: differs between folders and processes, so that a browser does not show a stored image of another one.
    """

    def __init__(self, folder: Path, suggestions: Path | None = None, options: Sequence[str] = ()) -> None:
        """List the images.

        Args:
            folder: the folder.
            suggestions: list of the images to label first; None to rank them.
            options: options of `partedvae suggest` that name the model.

        Raises:
            DataError: the folder has no images, or its labels.csv or the list is invalid.
            OSError: one of them cannot be read.
        """
        self.folder = folder
        self.names = find_images(folder).names
        if not self.names:
            raise DataError(f"{folder} contains no images; pass a folder of images as --label")
        self._file = LabelsFile(folder, self.names)
        # A read that began before a write, and ends after it, would bring the earlier labels back.
        self._lock = asyncio.Lock()
        self.labels = self._file.read()
        self.ranker, self.trainer = CommandProcess(), CommandProcess()
        self.features_run = ""
        self.problem = ""
        self.version = secrets.token_hex(8)
        self._options = list(options)
        self._rest = list(self.names)
        random.Random(0).shuffle(self._rest)
        self._orders: dict[str, list[str]] = {}
        self._reserved: dict[str, str] = {}
        self._classes: dict[str, list[str]] = {}
        self._keys: dict[str, dict[str, str]] = {}
        self._since_ranked: Counter[str] = Counter()
        self._given = None if suggestions is None else read_listed(suggestions, self.names, "folder")
        self._task: asyncio.Task[None] | None = None

    @property
    def path(self) -> Path:
        """The table of the labels."""
        return self._file.path

    def unlabelled(self, factor: str = ANY) -> int:
        """Return the number of images that have no label of a factor, and are not for testing."""
        labelled = self.labels.labelled(factor or None)
        return sum(name not in labelled and name not in self.labels.tests for name in self.names)

    def ranked(self, factor: str = ANY) -> int:
        """Return the number of images that are ranked by what a label of a factor would teach, and have none."""
        labelled = self.labels.labelled(factor or None)
        return sum(name not in labelled and name not in self.labels.tests for name in self._order(factor))

    def ranked_by(self, factor: str) -> str:
        """Return the factor of the ranking for visitors who label one, or all for `ANY`.

        With a single factor, any label is one of it. `partedvae suggest` knows the factors of labels.csv alone.
        """
        return factor if factor in self.labels.factors and len(self.labels.factors) > 1 else ANY

    def _order(self, factor: str) -> list[str]:
        return self._orders.get(factor, []) if self._given is None else self._given

    def _batch(self, factor: str) -> int:
        known = [classes for name, classes in self._classes.items() if factor in (ANY, name)]
        return max(FEWEST_RANKED, *map(len, known), int(RANKED_SHARE * len(self.labels.labelled(factor or None))))

    def classes(self, factor: str, others: Iterable[str] = ()) -> list[str]:
        """Return the classes of a factor; later ones are added at the end.

        Args:
            factor: the factor.
            others: classes that images may have, beside those that some have.
        """
        known = self._classes.setdefault(factor, [])
        found = in_order({*others, *self.labels.classes(factor)})
        known += [name for name in found if name not in known]
        return known

    def keys(self, factor: str) -> dict[str, str]:
        """Return the keys of the classes of a factor, which stay when classes are added: a visitor may be typing."""
        self._keys[factor] = keys_of(self.classes(factor), self._keys.get(factor))
        return self._keys[factor]

    async def add_class(self, factor: str, name: str) -> str:
        """Add a class that no image has yet, and return its factor as labels.csv writes it.

        Args:
            factor: the factor, which may be a new one.
            name: the class.

        Raises:
            DataError: training would refuse one of these names.
        """
        factor, name = normalised(factor), normalised(name)
        await asyncio.to_thread(self._file.check, self.labels, factor, name)
        known = self.classes(factor)
        if name not in known:
            known.append(name)
        return factor

    def claim(
        self, visitor: str, factors: Sequence[str], skipped: Collection[str], first: str = "", ranked_by: str = ANY
    ) -> str | None:
        """Return the next image of a visitor, which no other visitor gets meanwhile; None if there is none.

        Args:
            visitor: the visitor, whose earlier image is released.
            factors: the factors that it is to have.
            skipped: images that the visitor does not want.
            first: the image to take, if it is given; another visitor may have it too.
            ranked_by: which ranking to follow, from `ranked_by`.
        """
        self.release(visitor)
        candidates = [first] if first else [*self._order(ranked_by), *self._rest]
        for name in candidates:
            known = self.labels.values.get(name, {})
            if first or not (
                name in skipped
                or name in self._reserved
                or name in self.labels.tests
                or all(factor in known for factor in factors)
            ):
                self._reserved.setdefault(name, visitor)
                return name
        return None

    def release(self, visitor: str) -> None:
        """Let others have the image of a visitor."""
        self._reserved = {name: other for name, other in self._reserved.items() if other != visitor}

    async def refresh(self) -> None:
        """Read the labels again, which other programs may have changed.

        Raises:
            DataError: the table is invalid.
        """
        async with self._lock:
            self.labels = await asyncio.to_thread(self._file.read)

    async def write(self, name: str, factor: str, value: str, before: str) -> bool:
        """Write the class of an image, unless it was changed meanwhile. Ranks again after some labels.

        Args:
            name: the image.
            factor: the factor.
            value: the class; empty clears it.
            before: the class that is replaced; empty for none.

        Returns:
            Whether the image has the class now.

        Raises:
            DataError: the table or the class is invalid.
            OSError: it cannot be written.
        """
        async with self._lock:
            self.labels = await asyncio.to_thread(self._file.write, name, factor, value, before)
        if self.labels.class_of(name, factor) != normalised(value):
            return False
        for ranked_by in self._orders:
            if ranked_by in (ANY, factor):
                self._since_ranked[ranked_by] += 1
                if self._since_ranked[ranked_by] >= self._batch(ranked_by):
                    self.rank(ranked_by)
        return True

    def training_command(self) -> list[str]:
        """Return the arguments of `partedvae` that train from the labels, into a folder that does not exist yet."""
        name = f"{self.folder.resolve().name}-{len(self.labels.values)}-labels"
        run, number = Path("runs") / name, 1
        while run.exists():
            number += 1
            run = Path("runs") / f"{name}-{number}"
        features = ["--features", self.features_run] if self.features_run else []
        return ["train", f"folder:{self.folder}", "--output", str(run), *features]

    def rank(self, factor: str = ANY, *, again: bool = True) -> None:
        """Rank images in the background, unless a list was given, a ranking runs, or no image is left.

        Args:
            factor: which ranking, from `ranked_by`.
            again: whether to repeat one that has ended.
        """
        if self._given is not None or self.ranker.running or (self._task is not None and not self._task.done()):
            return
        if factor in self._orders and not again:
            return
        if not self.unlabelled(factor):
            self._orders[factor], self.problem = [], ""
            return
        self._since_ranked[factor] = 0
        self._task = asyncio.create_task(self._rank(factor))

    async def stop(self) -> None:
        """End the commands."""
        await asyncio.gather(self.ranker.stop(), self.trainer.stop())

    async def _rank(self, factor: str) -> None:
        count = self._batch(factor) + (SPARE if self.labels.labelled(factor or None) else 0)
        chosen = ["--factor", factor] if factor else []
        words = ["suggest", str(self.folder), "--count", str(count), "--json", *chosen, *self._options]
        # Also if it fails, so that it is not repeated at once.
        self._orders.setdefault(factor, [])
        output = await self.ranker.run(words, apart=True)
        if self.ranker.code:
            errors = [line for line in self.ranker.lines if line.startswith("Error: ")]
            last = (errors or list(self.ranker.lines) or ["it ended without a message"])[-1]
            # The last images may have been labelled since the ranking began.
            self.problem = last if self.unlabelled(factor) else ""
            return
        by_text = {printable(name): name for name in self.names}
        try:
            suggested = json.loads(output)
            order = [by_text[text] for text in suggested["images"] if text in by_text]
            self.features_run = suggested["features_run"] or ""
        except (ValueError, LookupError, TypeError):
            self.problem = f"'partedvae suggest' printed {output.strip()[:SHOWN]!r} instead of a list of images"
            return
        self._orders[factor], self.problem = order, ""
