"""Labels that share their beginnings share their nodes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sentiment.t5.decoder import LabelTrie

START = 9
# Three tokens and up to four of them: most draws share beginnings.
LABELS = st.lists(
    st.lists(st.integers(3, 5), min_size=1, max_size=4).map(tuple), min_size=1, max_size=6
)


def path_to(trie: LabelTrie, node: int) -> list[int]:
    """Tokens from the start to this node."""
    path: list[int] = []
    while node >= 0:
        path.insert(0, trie.tokens[node])
        node = trie.parents[node]
    return path


def test_labels_of_one_token_need_the_start_alone() -> None:
    trie = LabelTrie.build([(5,), (6,)], START)
    assert (trie.tokens, trie.parents) == ((START,), (-1,))
    assert trie.labels == (((0, 5),), ((0, 6),))


def test_shared_beginnings_are_one_node() -> None:
    trie = LabelTrie.build([(3, 419), (3, 323, 31), (223,), (3, 419, 1)], START)
    assert trie.tokens == (START, 3, 323, 419)
    assert trie.parents == (-1, 0, 1, 1)
    assert trie.labels == (
        ((0, 3), (1, 419)),
        ((0, 3), (1, 323), (2, 31)),
        ((0, 223),),
        ((0, 3), (1, 419), (3, 1)),
    )


def test_equal_tokens_after_unlike_beginnings_are_nodes_of_their_own() -> None:
    trie = LabelTrie.build([(3, 7, 1), (4, 7, 1)], START)
    assert [path_to(trie, node) for node in range(len(trie.tokens))] == [
        [START], [START, 3], [START, 3, 7], [START, 4], [START, 4, 7],
    ]  # fmt: skip


def test_distances_reach_ancestors_and_no_one_else() -> None:
    trie = LabelTrie.build([(3, 419, 8), (3, 323, 8), (6, 8)], START)
    assert trie.parents == (-1, 0, 1, 1, 0)
    assert trie.distances().tolist() == [
        [0, 1, 1, 1, 1],
        [-1, 0, 1, 1, 1],
        [-2, -1, 0, 1, 1],
        [-2, -1, 1, 0, 1],
        [-1, 1, 1, 1, 0],
    ]


@given(labels=LABELS)
def test_the_path_of_a_label_spells_it(labels: list[tuple[int, ...]]) -> None:
    trie = LabelTrie.build(labels, START)
    assert len(trie.labels) == len(labels)
    for label, path in zip(labels, trie.labels, strict=True):
        for step, (node, token) in enumerate(path):
            assert path_to(trie, node) == [START, *label[:step]]
            assert token == label[step]


@given(labels=LABELS)
def test_there_is_one_node_for_each_beginning(labels: list[tuple[int, ...]]) -> None:
    trie = LabelTrie.build(labels, START)
    beginnings = {label[:end] for label in labels for end in range(len(label))}
    paths = [tuple(path_to(trie, node)[1:]) for node in range(len(trie.tokens))]
    assert sorted(paths) == sorted(beginnings)
    assert len(trie.parents) == len(trie.tokens)
    assert trie.parents[0] == -1
    assert all(0 <= parent < node for node, parent in enumerate(trie.parents) if node > 0)


@given(labels=LABELS)
def test_a_node_sees_itself_and_its_ancestors_at_their_distance(
    labels: list[tuple[int, ...]],
) -> None:
    trie = LabelTrie.build(labels, START)
    paths = [path_to(trie, node) for node in range(len(trie.tokens))]
    for node, row in enumerate(trie.distances().tolist()):
        for other, distance in enumerate(row):
            above = paths[node][: len(paths[other])] == paths[other]
            assert distance == (len(paths[other]) - len(paths[node]) if above else 1)
