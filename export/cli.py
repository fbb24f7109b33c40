"""The command of export. Imports of PyTorch are inside it, so that asking for help is fast."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.argument("model_folder", metavar="MODELS_DIR/NAME", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Folder of the data sets; parity is proved on the test images.",
)
def export(run_dir: Path, model_folder: Path, data_dir: Path) -> None:
    """Export a run as the next version of a model, for `partedvae serve`."""
    from partedvae.export.exporter import export_run

    try:
        bundle = export_run(run_dir, model_folder, data_dir)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    scores = ", ".join(f"{name} {value:.4g}" for name, value in sorted(bundle.manifest.scores.items()))
    click.echo(f"{bundle.folder}: {scores}, parity within {bundle.manifest.parity_max_difference:.1e}")
    click.echo(f"next: partedvae serve {model_folder.parent}")
