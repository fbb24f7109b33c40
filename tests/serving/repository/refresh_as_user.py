"""Serves a folder of models without privileges; prints the states of all versions at the start and per line of stdin.

Where it is started by root, whom no permission stops, it becomes the user nobody after its imports: the installation
may be in a folder that nobody cannot read.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

from partedvae.serving.repository.repository import ModelRepository
from partedvae.serving.repository.table import VersionStatus

NOBODY = 65534


def state_of(status: VersionStatus) -> str:
    return status.reason or ("default" if status.is_default else "ready")


if os.getuid() == 0:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
logging.basicConfig(level=logging.INFO, format="%(message)s")
repository = ModelRepository(Path(sys.argv[1]), "cpu", 1)
while True:
    print(json.dumps({f"{s.name}/{s.version}": state_of(s) for s in repository.statuses()}), flush=True)
    if not sys.stdin.readline():
        break
    repository.refresh()
