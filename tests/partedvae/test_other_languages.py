"""The example of docs/SERVING.md for Node."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "SERVING.md"
PROGRAM = """
const whole = Buffer.from(process.argv[1], 'hex');
for (let offset = 0; offset < 4; offset++) {
  const padded = Buffer.concat([Buffer.alloc(offset + 1), whole]);
  console.log(JSON.stringify(rows({ shape: [2, 3], data: padded.subarray(offset + 1) })));
}
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_node_reads_a_float_tensor_at_any_offset() -> None:
    """The function returns the values for every alignment of the bytes, as Node's parser of messages cuts them."""
    (example,) = re.findall(r"```javascript\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    values = np.array([[0.5, -1.25, 3.0], [1e10, 0.0, -0.125]], "<f4")
    command = ["node", "-e", example + PROGRAM, values.tobytes().hex()]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert [json.loads(line) for line in lines] == [values.tolist()] * 4
