"""Commands in Markdown pages, and how tests run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


def blocks_to_run(page: str) -> list[str]:
    """The fenced blocks that stand below a `<!-- run -->`, in their order."""
    return re.findall(r"<!-- run -->\n```bash\n(.*?)```", page, flags=re.DOTALL)


def run(
    command: str, folder: Path, *, ray_address: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command line in a folder, with this environment's programs first on the path.

    Args:
        ray_address: Of a cluster to join; a command that needs one starts its own if None.
    """
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("RAY_ADDRESS", None)
    if ray_address:
        environment["RAY_ADDRESS"] = ray_address
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
