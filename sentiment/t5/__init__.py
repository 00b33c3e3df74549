"""The T5 network as tensors: sizes, linear layers, encoder, decoder. Knows no files, no text."""
