"""The options of every command: names, defaults, units and rules, and where they are read from:
flags, a YAML file, environment variables or Python. Must not know how an option is carried out.
"""
