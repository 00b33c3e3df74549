"""The files of an output: their names, the commit of a unit, what is committed already and what
is still to do, the lease. Must not know models, the engine or the settings.
"""
