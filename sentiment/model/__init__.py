"""Models as folders: finding one by name, its labels and prompt, its tokenizer, its weights and
its README. Must not know rows, shards or outputs.
"""
