"""Measurements behind the figures in the documentation.

A module here is a subcommand of `ssiu benchmark`: its docstring is the help, ``add_arguments(parser)`` declares
options, ``run(arguments)`` measures and returns tables.
"""
