"""Scoring runs as processes of their own, the killing of their parts, and what is left of them.

Takes a corpus, a model and a seed; gives outputs and a count of what was killed. Finds the
processes of a run by a mark in their environment: orphans are found, nobody else's are. Knows the
public command and the output contract, nothing of how they are kept.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from textwrap import dedent, indent
from typing import Any, Literal
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

Kind = Literal["driver", "actor", "worker", "raylet"]

# Change it to meet other moments; the seed of a run is printed with its kills.
SEED = int(os.environ.get("SENTIMENT_TEST_SEED", "20261122"))

# The run that all are compared with has fewer, larger units: its rows do not depend on that.
UNDISTURBED_UNIT_ROWS = 160

# A run of these tests takes half a minute, and some seconds more a kill; this long, it hangs.
RUN_SEC = 600
_MARK = "SENTIMENT_TEST_MARK"
_POLL_SEC = 0.03

# How Ray titles its processes: `ray::` and what they are or run.
_TITLES: dict[Kind, tuple[str, ...]] = {
    "actor": ("MapWorker(MapBatches(PackedScorer))",),
    "worker": ("ray::IDLE", "Tokenise", "Commit", "ReadReviewShards"),
}

# Most files to let appear between two kills of a kind.
_STEPS: dict[Kind, int] = {"driver": 15, "actor": 4, "worker": 3, "raylet": 6}

_WORDS = (
    "film soup hotel plot waiter room felt good bad great awful dull slow never again twice not"
)


# The corpus.


def write_corpus(folder: Path, seed: int = 7) -> Path:
    """Some 4,000 made-up reviews in two days and five formats, with bad rows and a torn file.

    The same bytes for the same seed. Parquet is cut into as many units as one likes, text at every
    1,024th record.
    """
    random = Random(seed)
    rows = [
        {"id": str(number), "text": _review(random), "stars": str(random.randint(1, 5))}
        for number in range(4000)
    ]
    for row in random.sample(rows, 60):
        row["text"] = random.choice(["", "   ", "\t"])
    first, second = folder / "dt=2026-11-19", folder / "dt=2026-11-20"
    first.mkdir(parents=True)
    second.mkdir()
    nulls: list[dict[str, str | None]] = [*rows[:800]]
    nulls[5] = {**rows[5], "text": None}
    pq.write_table(pa.Table.from_pylist(nulls), first / "a.parquet", row_group_size=300)
    pq.write_table(pa.Table.from_pylist(rows[800:1500]), second / "b.parquet", row_group_size=70)
    _write_delimited(first / "c.csv", rows[1500:2600], ",")
    _write_delimited(second / "d.tsv", rows[2600:2700], "\t")
    lines = [json.dumps(row) for row in rows[2700:4000]]
    lines[17] = '{"id": "broken"'
    packed = gzip.compress("\n".join(lines).encode(), mtime=0)
    (second / "e.jsonl.gz").write_bytes(packed)
    (first / "f_torn.parquet").write_bytes(b"PAR1 torn")
    (second / "g_empty.csv").write_text("id,text,stars\n")
    return folder


def _review(random: Random) -> str:
    return " ".join(random.choices(_WORDS.split(), k=random.randint(3, 60)))


def _write_delimited(path: Path, rows: Sequence[Mapping[str, str]], mark: str) -> None:
    records = [mark.join(row.values()) for row in rows]
    records[3] = "one field only"
    path.write_text("\n".join([mark.join(rows[0]), *records]) + "\n")


# A cluster.


class Cluster:
    """Two nodes on this machine, each a raylet of its own; the second may die.

    Args:
        scratch: For logs and sockets.
        node_command: Words in front of the command that starts the second node.
    """

    def __init__(self, scratch: Path, node_command: Sequence[str] = ()) -> None:
        self._scratch = scratch
        self._node_command = node_command
        self._marks = {"head": uuid4().hex, "node": uuid4().hex}
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        port = self.address.partition(":")[2]
        # Ray listens on more than the loopback address whatever it is told: not without a token.
        token = scratch / "token"
        token.write_text(uuid4().hex)
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        try:
            self._start("head", "--head", f"--port={port}", "--include-dashboard=false")
            self.replace_node()
        except BaseException:
            self.stop()
            raise

    def _start(self, name: str, *words: str) -> None:
        with (self._scratch / f"{name}.log").open("ab") as log:
            self._nodes[name] = subprocess.Popen(
                [
                    *(self._node_command if name == "node" else ()),
                    str(Path(sys.executable).parent / "ray"), "start", *words, "--block",
                    "--num-cpus=1", "--node-ip-address=127.0.0.1",
                    "--object-store-memory=200000000",
                ],
                env=environment(self._marks[name], self._scratch) | self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in (text := (self._scratch / f"{name}.log").read_text()):
            assert self._nodes[name].poll() is None, text[-2000:]
            assert time.monotonic() < deadline, f"no {name} node: {text[-2000:]}"
            time.sleep(0.2)

    def raylet(self) -> int | None:
        """The raylet of the second node."""
        found = [
            pid for pid, title in processes(self._marks["node"]).items() if "raylet/raylet" in title
        ]
        return found[0] if found else None

    def replace_node(self) -> None:
        """End what is left of the second node and start another."""
        self._end("node")
        self._marks["node"] = uuid4().hex
        (self._scratch / "node.log").unlink(missing_ok=True)
        self._start("node", f"--address={self.address}")

    def _end(self, name: str) -> None:
        process = self._nodes.pop(name, None)
        if process is not None:
            reap(self._marks[name], patience_sec=3)
            process.wait()

    def stop(self) -> None:
        """End both nodes, by process id: `ray stop` would end everybody's."""
        for name in list(self._nodes):
            self._end(name)


# A run.


@dataclass
class Job:
    """The command under test, run again and again on one output.

    Attributes:
        cluster: To be joined; None for a local one of each run.
        extra_path: Folder in front of every process's Python path.
    """

    lake: Path
    output: Path
    model: Path
    scratch: Path
    cluster: Cluster | None = None
    unit_rows: int = 40
    extra_path: Path | None = None
    mark: str = field(default_factory=lambda: uuid4().hex)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command; its words go to a log in the scratch folder."""
        words = [
            "score", str(self.lake), "--output", str(self.output), "--model", str(self.model),
            "--precision", "fp32", "--unit-rows", str(self.unit_rows), "--max-rejected", "1",
            "--no-progress-sec", "120",
        ]  # fmt: skip
        if self.cluster:
            words += ["--ray-address", self.cluster.address]
        joined = self.cluster.environment if self.cluster else {}
        with (self.scratch / f"{self.mark}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "sentiment", *words],
                env=environment(self.mark, self.scratch, self.extra_path) | joined,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self) -> str:
        """What all runs of this job have said."""
        return (self.scratch / f"{self.mark}.log").read_text(errors="replace")

    def finish(self) -> None:
        """Run to the end, undisturbed."""
        process = self.start()
        code = process.wait(RUN_SEC)
        assert code == 0, f"exit code {code}:\n{self.log()[-3000:]}"

    def committed(self) -> int:
        """Data files so far."""
        return sum(1 for _ in data_files(self.output))


def environment(mark: str, scratch: Path, extra_path: Path | None = None) -> dict[str, str]:
    """The environment of a run: marked, without a network, with a Ray of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "SENTIMENT_"))
    }
    paths = [str(extra_path or ""), kept.get("PYTHONPATH")]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        _MARK: mark,
        "HF_HUB_OFFLINE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(scratch / "ray"),
    }


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A short path for Ray's sockets, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="sf-", dir="/tmp"))
    (folder / "ray").mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# What every process of a run imports first. It changes one module as that is imported, so that the
# product need not know how it is made to fail.
_SITECUSTOMIZE = """
import importlib.util, sys


def change(module):
{change}


class Hook:
    def find_spec(self, name, path=None, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Hook())
"""


def write_hook(folder: Path, module: str, change: str) -> Path:
    """A folder for `Job.extra_path` that changes a module in every process of a run.

    Args:
        change: Python that does so; the module is at hand as `module`.
    """
    folder.mkdir()
    source = _SITECUSTOMIZE.format(module=module, change=indent(dedent(change), "    "))
    (folder / "sitecustomize.py").write_text(source)
    return folder


# Processes.


def processes(mark: str) -> dict[int, str]:
    """Title of each process whose environment holds the mark."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                marked = f"{_MARK}={mark}".encode() in Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            if marked and (title := title_of(int(entry))):
                found[int(entry)] = title
    return found


def title_of(pid: int) -> str:
    """What a process calls itself; nothing when it is gone or a zombie."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return words.replace(b"\0", b" ").decode(errors="replace").strip()


def kill(pid: int) -> bool:
    """SIGKILL; whether there was somebody to kill."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def reap(mark: str, patience_sec: float) -> int:
    """Wait for the orphans of a killed driver to end, then end those that do not.

    Returns:
        How many had to be killed.
    """
    deadline = time.monotonic() + patience_sec
    while processes(mark) and time.monotonic() < deadline:
        time.sleep(0.2)
    killed = 0
    while left := processes(mark):
        killed += sum(kill(pid) for pid in left)
        time.sleep(0.2)
    return killed


# The kills.


@dataclass
class Tally:
    """What one kind of kill has come to.

    Attributes:
        lost: Rows of the undisturbed run that are missing.
        doubled: Rows that are there more than once.
        orphans: Processes of killed drivers that had to be ended by hand.
    """

    kind: str
    kills: int = 0
    outputs: int = 0
    reruns: int = 0
    lost: int = 0
    doubled: int = 0
    orphans: int = 0
    seconds: float = 0.0


# Filled by the tests, printed when they are through.
TALLIES: dict[str, Tally] = {}


class Killer:
    """Runs a job to its end while it kills parts of it.

    Args:
        kinds: What to kill, in this order.
        inspect: Called when a driver has died and nothing of its run is left.

    Attributes:
        done: What was killed when.
    """

    def __init__(
        self, job: Job, kinds: Sequence[Kind], random: Random, inspect: Callable[[], None]
    ) -> None:
        self._job = job
        self._random = random
        self._inspect = inspect
        self._left = list(kinds)
        self.done: list[str] = []
        self.reruns = 0
        self.orphans = 0

    def run(self) -> None:
        """Run the command until it succeeds; kills that find no victim in time are left out."""
        for _ in range(len(self._left) + 10):
            process = self._job.start()
            try:
                self._disturb(process)
                code = process.wait(RUN_SEC)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            if code == 0:
                self.orphans += reap(self._job.mark, patience_sec=10)
                return
            if code != -signal.SIGKILL:
                print(f"exit code {code}: {self._job.log()[-600:]}", flush=True)
            self.reruns += 1
            # Half of the time the next run meets what the dead driver left running.
            if self._random.random() < 0.5:
                self.orphans += reap(self._job.mark, patience_sec=10)
                self._inspect()
        raise AssertionError(f"{self.done} and no end:\n{self._job.log()[-3000:]}")

    def _disturb(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + RUN_SEC
        while self._left:
            kind = self._left[0]
            target = self._job.committed() + self._random.randint(0, _STEPS[kind])
            title, delay_sec = self._title(kind), self._random.choice([0, 0, 0.05, 0.3])
            while self._job.committed() < target or not self._job.output.exists():
                if process.poll() is not None:
                    return
                assert time.monotonic() < deadline, f"{self.done} and no end: {self._job.log()}"
                time.sleep(_POLL_SEC)
            time.sleep(delay_sec)
            if kind == "driver":
                victim: int | None = process.pid
            elif kind == "raylet":
                assert self._job.cluster is not None
                victim = self._job.cluster.raylet()
            else:
                victim = self._find(process, title, deadline)
            if victim is None:
                return
            what = title_of(victim)[:60]
            if kill(victim):
                self._left.pop(0)
                self.done.append(f"{kind} after {self._job.committed()} files: {what}")
                print(f"seed {SEED}: killed {self.done[-1]}", flush=True)
            if kind == "driver":
                return
            if kind == "raylet":
                assert self._job.cluster is not None
                self._job.cluster.replace_node()

    def _title(self, kind: Kind) -> str:
        """A word of the title to wait for; for actors, half of the time while they score."""
        if kind == "actor":
            return _TITLES[kind][0] + self._random.choice([").submit", ""])[1:]
        return self._random.choice(_TITLES.get(kind, ("",)))

    def _find(self, process: subprocess.Popen[bytes], word: str, deadline: float) -> int | None:
        """A process of the run with this word in its title, as soon as there is one."""
        while process.poll() is None:
            assert time.monotonic() < deadline, f"{self.done} and no end: {self._job.log()}"
            known = processes(self._job.mark)
            # Ray 2.60 waits for ever for a worker that dies before the driver has joined.
            if not any(_TITLES["actor"][0] in title for title in known.values()):
                time.sleep(_POLL_SEC)
                continue
            for _ in range(20):
                titles = {pid: title_of(pid) for pid in known}
                found = [pid for pid in known if word in titles[pid] and "ray::" in titles[pid]]
                if found:
                    return self._random.choice(found)
                time.sleep(_POLL_SEC)
        return None


# What is left.


def data_files(output: Path) -> Iterator[Path]:
    """Committed files, as a reader of the output finds them."""
    for folder, names, files in os.walk(output):
        names[:] = [name for name in names if not name.startswith(("_", "."))]
        for name in files:
            if name.endswith(".parquet") and not name.startswith((".", "_")):
                yield Path(folder, name)


Row = dict[str, Any]


@dataclass
class Contents:
    """All rows of an output by source file and row; more than one where rows are doubled."""

    labelled: dict[tuple[str, int], list[Row]] = field(default_factory=lambda: defaultdict(list))
    rejected: dict[tuple[str, int], list[Row]] = field(default_factory=lambda: defaultdict(list))
    success: set[str] = field(default_factory=set)

    @property
    def keys(self) -> set[tuple[str, int]]:
        """Every row that is there at all."""
        return {*self.labelled, *self.rejected}

    def times(self, key: tuple[str, int]) -> int:
        """How often a row is there."""
        return len(self.labelled.get(key, ())) + len(self.rejected.get(key, ()))


def read_output(output: Path) -> Contents:
    """Everything an output says, folder by folder."""
    found = Contents()
    for path in data_files(output):
        for row in pq.read_table(path, partitioning=None).to_pylist():
            found.labelled[row["sentiment_source_file"], row["sentiment_source_row"]].append(row)
    for path in sorted((output / "_sentiment" / "rejected").rglob("*.pq")):
        for row in pq.read_table(path, partitioning=None).to_pylist():
            last = row["source_row_end"]
            for number in range(row["source_row"], (last or row["source_row"]) + 1):
                found.rejected[row["source_file"], number].append(row)
    found.success = {str(path.parent.relative_to(output)) for path in output.rglob("_SUCCESS")}
    return found
