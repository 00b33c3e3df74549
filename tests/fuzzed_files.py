"""Makes files of every format and dialect at random, and knows what they hold."""

from __future__ import annotations

import csv
import io
import json
import random

from file_kinds import COMPRESSIONS, FORMATS, zipped

PIECES = ("good", "bad", "", " ", "a, b", 'say "no"', '"', "\n", "\r\n", "tab\t", "ø€", ";", "|",
          "\\", '\\"', "id", "text", "'", '""', ",,", "NULL", "-1", "x" * 50)  # fmt: skip


def delimited_file(chance: random.Random) -> tuple[str, bytes, list[list[str]]]:
    """A file in a dialect that is written as its writers do, and what it holds."""
    kind = chance.choice(["csv", "semicolons", "tsv", "plain tsv", "spark", "excel", "pipes"])
    table = []
    for number in range(chance.randint(1, 40)):
        text = "".join(chance.choice(PIECES) for _ in range(chance.randint(0, 4)))
        if kind == "plain tsv":
            # Without quotes such texts cannot be written, or nobody can tell what is meant.
            text = "".join(letter for letter in text if letter not in "\t\r\n").replace('""', "")
            text = f"a{text}" if text[:1] == text[-1:] == '"' else text
        if kind == "spark":  # Spark reads and writes such texts in ways that nobody can undo
            text = text.replace("\\", "/")
        table.append([str(number), text])
    delimiter = {"semicolons": ";", "tsv": "\t", "plain tsv": "\t", "pipes": "|"}.get(kind, ",")
    end = chance.choice(["\n", "\r\n"])
    if kind == "plain tsv":
        lines = ["id\ttext", *("\t".join(row) for row in table)]
        content = "".join(line + end for line in lines)
    elif kind == "spark":
        quoted = [f'{row[0]},"{row[1]}"'.replace('"', '\\"') for row in table]
        quoted = [line.replace('\\"', '"', 1)[:-2] + '"' for line in quoted]
        content = "".join(line + "\n" for line in ["id,text", *quoted])
    else:
        target = io.StringIO(newline="")
        quoting = chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        writer = csv.writer(target, delimiter=delimiter, lineterminator=end, quoting=quoting)
        blank = ["", ""] if kind == "excel" else []
        writer.writerows([*row, *blank] for row in [["id", "text"], *table])
        content = target.getvalue()
    encoding = chance.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252"])
    if encoding == "cp1252":
        content = content.replace("ø€", "é.")
        table = [[row[0], row[1].replace("ø€", "é.")] for row in table]
    name = "a.tsv" if "tsv" in kind else "a.csv"
    return name, content.encode(encoding), table


def any_file(chance: random.Random) -> tuple[str, bytes, list[list[str]]]:
    """A file of any format, plain or compressed, and the rows that it holds."""
    if chance.random() < 0.5:
        name, content, table = delimited_file(chance)
    else:
        kind = chance.choice([*FORMATS, "arrays.json", "lines of arrays.json"])
        table = [
            [str(n), "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 4)))]
            for n in range(chance.randint(1, 300))
        ]
        rows = [{"id": number, "text": text} for number, text in table]
        if kind in FORMATS:
            content = FORMATS[kind](rows)
        elif kind == "arrays.json":
            content = b"".join(
                json.dumps(rows[at : at + 7]).encode() for at in range(0, len(rows), 7)
            )
        else:
            content = b"".join(json.dumps([row]).encode() + b"\n" for row in rows)
        name = f"a.{kind}"
    packing = chance.choice(list(COMPRESSIONS))
    content, name = COMPRESSIONS[packing](content), name + packing
    if chance.random() < 0.1:
        content, name = zipped({name: content}), "a.zip"
    return name, content, table
