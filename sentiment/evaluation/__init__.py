"""How right the labels of a labelled source are: figures, intervals, mistakes, and parity with
free generation. Must not know how a run is made.
"""
