"""Evaluate labels on a cluster: `ray job submit --working-dir . -- python jobs/evaluate.py …`."""

import sys

from sentiment.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job("evaluate"))
