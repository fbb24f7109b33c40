"""The commit that a run records."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from partedvae.training.runs import provenance


def git(folder: Path, *arguments: str) -> str:
    """Run git as some author, and return what it prints."""
    command = ["git", "-C", str(folder), "-c", "user.name=someone", "-c", "user.email=someone@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_that_of_this_code_and_not_of_a_project_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment is often a folder of a project, which git ignores."""
    code = tmp_path / "project" / "code.py"
    code.parent.mkdir()
    code.write_text("")
    git(code.parent, "init", "--quiet")
    git(code.parent, "commit", "--quiet", "--allow-empty", "--message", "project")
    monkeypatch.setattr(provenance, "__file__", str(code))
    assert provenance._commit() == ""
    git(code.parent, "add", "code.py")
    git(code.parent, "commit", "--quiet", "--message", "code")
    assert provenance._commit() == git(code.parent, "rev-parse", "HEAD")
    code.write_text("changed")
    assert provenance._commit() == git(code.parent, "rev-parse", "HEAD") + "-dirty"
