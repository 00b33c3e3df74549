"""Asks every node of a cluster whether it writes where the driver reads.

A local path is another disk on every machine. Without this a run would label for hours before its
files are missed.
"""

from __future__ import annotations

import logging
import socket
from uuid import uuid4

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sentiment.errors import OutputError
from sentiment.output.folder import Output
from sentiment.output.layout import PROBE_FOLDER

# A node may have to start a worker process first.
_ANSWER_SEC = 60

_log = logging.getLogger(__name__)


def probe_nodes(output: Output) -> None:
    """Let every node write one small file through the output, and look for it here.

    Nothing is asked of a cluster of one node: if it runs the driver as well, it sees the same disk,
    and if not, the account at the end finds out.

    Raises:
        OutputError: A node cannot write there, or writes where the driver does not read.
    """
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    if len(nodes) == 1 and nodes[0] == ray.get_runtime_context().get_node_id():
        return
    name = f"{PROBE_FOLDER}/{uuid4().hex}"
    asked = {
        ray.remote(num_cpus=0)(write_probe)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        .remote(output.location, f"{name}-{place}"): f"{name}-{place}"
        for place, node in enumerate(nodes)
    }
    done, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SEC)
    try:
        for answer in done:
            _check(output, asked[answer], answer)
        if silent:
            _log.warning("%d nodes did not say whether they see --output", len(silent))
    finally:
        output.delete_folder(PROBE_FOLDER)


def write_probe(location: str, name: str) -> tuple[str, str | None]:
    """Write the file of a node.

    Returns:
        The node, and what went wrong; None if nothing did.
    """
    try:
        Output.open(location).write(name, b"")
    except OutputError as error:
        return socket.gethostname(), str(error)
    return socket.gethostname(), None


def _check(output: Output, name: str, answer: ray.ObjectRef[tuple[str, str | None]]) -> None:
    try:
        host, problem = ray.get(answer)
    except RayError as error:  # it may be gone by now
        _log.warning("a node did not say whether it sees --output: %s", type(error).__name__)
        return
    if problem is not None:
        raise OutputError(f"node {host}: {problem}")
    if not output.exists(name):
        raise OutputError(
            f"--output {output.location}: node {host} writes to a disk of its own there; use a "
            "folder that every node shares, such as a network disk or s3://…"
        )
