"""A plain loop: torch's DataLoader with a process per processor decodes, ONNX Runtime computes, pyarrow writes.

python -m benchmarks.extract.programs.dataloader BUNDLE INPUT OUTPUT
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.extract.programs.timing import Stopwatch, decode, image_size, list_files, output_names, read_idx
from partedvae.common.cpus import available_cpus
from partedvae.serving.bundle import load_bundle
from partedvae.serving.onnx_runtime import ort

BATCH = 256


class Files(Dataset[torch.Tensor]):
    """Image files, decoded to the model's size."""

    def __init__(self, files: list[str], size: tuple[int, int, int]) -> None:
        """Store the arguments."""
        self._files, self._size = files, size

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(decode(self._files[index], self._size).copy())


@click.command()
@click.argument("bundle_folder", type=Path)
@click.argument("source", type=Path)
@click.argument("output", type=Path)
def main(bundle_folder: Path, source: Path, output: Path) -> None:
    """Write the features of a folder or of an IDX file into a Parquet file."""
    bundle = load_bundle(bundle_folder)
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cpus()
    session = ort.InferenceSession(bundle.encoder_path, options, providers=["CPUExecutionProvider"])
    outputs, size = output_names(bundle), image_size(bundle)
    watch = Stopwatch()
    files = list_files(source) if source.is_dir() else []
    data: Dataset[Any] = Files(files, size) if files else TensorDataset(torch.from_numpy(read_idx(source, *size[:2])))
    loader: DataLoader[Any] = DataLoader(data, BATCH, num_workers=available_cpus())
    writer: pq.ParquetWriter | None = None
    first = 0
    for batch in loader:
        images = (batch if files else batch[0]).numpy()
        results = session.run(outputs, {"images": images})
        keys = files[first : first + len(images)] if files else list(range(first, first + len(images)))
        columns: dict[str, Any] = {"key": keys}
        for name, values in zip(outputs, results, strict=True):
            columns |= {f"{name}{j}": values[:, j] for j in range(values.shape[1])}
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(output, table.schema, compression="zstd")
        writer.write_table(table)
        first += len(images)
    if writer is not None:
        writer.close()
    watch.report(first)


if __name__ == "__main__":
    main()
