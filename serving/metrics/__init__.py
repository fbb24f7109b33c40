"""Prometheus metrics and their HTTP endpoint."""

import os

# Set for another program, these variables would let prometheus_client keep all metrics in mapped files of a folder,
# which must exist, and whose full disk would kill this process. It reads them when it is imported.
for _name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
    os.environ.pop(_name, None)
