"""Everything else that runs the same T5 weights, behind one small protocol.

A peer module has `make(name, work)`, which builds the variant of that name. It imports its library
at the top, so it is imported only when that library is installed.
"""
