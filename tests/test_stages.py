"""What Ray's task workers run, without Ray; reading, tokenising and committing have own tests."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import tiny_models

from sentiment.stages import Tokenise
from sentiment.tokenise import Tokeniser
from sentiment.weights import BUILTIN_FOLDER

LEAN = """
import pickle, sys
import sentiment.stages
stage = pickle.loads(sys.stdin.buffer.read())
print(stage.tokeniser.encode([sys.argv[1]])[0].ids.tolist())
heavy = {"torch", "transformers", "ray", "sklearn"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


@pytest.mark.parametrize("name", ["tiny_model", "builtin"])
def test_a_worker_tokenises_without_the_heavy_libraries(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Each of many workers would pay seconds and hundreds of megabytes for them."""
    folder = BUILTIN_FOLDER if name == "builtin" else request.getfixturevalue(name)
    tokeniser = Tokeniser(folder, "review: {text}", 64, "head_tail")
    text = tiny_models.example_texts()[0]
    done = subprocess.run(
        [sys.executable, "-c", LEAN, text],
        input=pickle.dumps(Tokenise(tokeniser, "text")),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().strip() == str(tokeniser.encode([text])[0].ids.tolist())
