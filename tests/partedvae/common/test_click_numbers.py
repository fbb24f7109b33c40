import click
import pytest
from click.testing import CliRunner

from partedvae.common.click_numbers import FiniteFloatRange


@click.command()
@click.option("--seconds", type=FiniteFloatRange(min=0, min_open=True))
def wait(seconds: float) -> None:
    click.echo(seconds)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nan", "'nan' is not a finite number"),
        ("inf", "'inf' is not a finite number"),
        ("1e999", "'1e999' is not a finite number"),
        ("-inf", "-inf is not in the range x>0"),
        ("0", "0.0 is not in the range x>0"),
        ("soon", "'soon' is not a valid float range"),
    ],
)
def test_numbers_that_are_refused(value: str, message: str) -> None:
    result = CliRunner().invoke(wait, ["--seconds", value])
    assert result.exit_code == 2
    assert f"Invalid value for '--seconds': {message}" in result.output


def test_finite_numbers() -> None:
    assert CliRunner().invoke(wait, ["--seconds", "0.25"]).output == "0.25\n"
