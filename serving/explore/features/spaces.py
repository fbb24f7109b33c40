"""The features that a map can show: u of all factors or of one, and z."""

from __future__ import annotations

from dataclasses import dataclass

from partedvae.results import FloatArray
from partedvae.serving.explore.features.table import FeatureTable


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """Features that are projected together."""

    name: str
    """"u", "u:<factor>" or "z", as in URLs."""
    title: str
    features: FloatArray
    """float32 [points, dimensions]."""

    @property
    def side(self) -> str:
        """What it is a part of, "u" or "z"."""
        return self.name.partition(":")[0]


def spaces_of(table: FeatureTable) -> dict[str, Space]:
    """Return the spaces of a file by name: u, then those of the factors where there are several, and z."""
    spaces = []
    if table.u is not None and table.u.shape[1]:
        spaces.append(Space(name="u", title="u, class-related", features=table.u))
        if len(table.factors) > 1:
            spaces += [
                Space(name=f"u:{f.name}", title=f"u of {f.name}", features=table.u[:, f.u])
                for f in table.factors
                if f.u.stop > f.u.start
            ]
    if table.z is not None and table.z.shape[1]:
        spaces.append(Space(name="z", title="z, class-independent", features=table.z))
    return {space.name: space for space in spaces}
