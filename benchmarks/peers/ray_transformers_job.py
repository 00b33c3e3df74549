"""The job most people would write: Ray Data and `generate` of transformers, on padded batches.

A peer of `sentiment score`, with nothing of ours in it but the journal: the time and the rows of
every finished batch, for the rate after warm-up.

    python benchmarks/peers/ray_transformers_job.py CORPUS --output FOLDER --model FOLDER \
        --labels negative positive --cpus 2 --journal FILE
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import ray
import torch
from ray.data import ActorPoolStrategy
from transformers import AutoTokenizer, T5ForConditionalGeneration

BATCH_ROWS = 16


class Classifier:
    """Holds the model and labels batch after batch."""

    def __init__(self, options: argparse.Namespace) -> None:
        # Ray would leave it one thread for each CPU it asks for.
        torch.set_num_threads(options.cpus)
        dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
        self.tokenizer = AutoTokenizer.from_pretrained(options.model)
        self.model = T5ForConditionalGeneration.from_pretrained(options.model, dtype=dtype).eval()
        label_ids = self.tokenizer(options.labels, add_special_tokens=False)["input_ids"]
        # The start token and the longest label: 2 where labels are single tokens.
        self.max_length = 1 + max(map(len, label_ids))
        self.max_source_tokens = options.max_source_tokens
        self.template = options.template
        self.journal = options.journal

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        inputs = self.tokenizer(
            [self.template.replace("{text}", text) for text in batch["text"]],
            padding=True,
            truncation=True,
            max_length=self.max_source_tokens,
            return_tensors="pt",
        )
        with torch.no_grad():
            answers = self.model.generate(**inputs, max_length=self.max_length)
        batch["sentiment"] = self.tokenizer.batch_decode(answers, skip_special_tokens=True)
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps([time.time(), len(batch["text"])]) + "\n")
        return batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", help="folder of Parquet files")
    parser.add_argument("--output", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--labels", required=True, nargs="+")
    parser.add_argument("--template", default="{text}")
    parser.add_argument("--max-source-tokens", type=int, default=512)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--cpus", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    options = parser.parse_args()
    ray.init(
        address="local",
        num_cpus=options.cpus,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
    )
    reviews = ray.data.read_parquet(options.corpus)
    labelled = reviews.map_batches(
        Classifier,
        fn_constructor_args=(options,),
        batch_size=BATCH_ROWS,
        compute=ActorPoolStrategy(size=1),
        # A CPU is left to reading and writing: an actor that holds all of them starves them.
        num_cpus=max(0.5, options.cpus - 1),
    )
    labelled.write_parquet(options.output)


if __name__ == "__main__":
    main()
