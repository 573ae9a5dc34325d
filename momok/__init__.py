"""Link prediction on multi-modal knowledge graphs: train, export, serve, explain.

The folders `model/`, `training/`, `service/`, `commands/` and `configs/` of the repository are this package's
parts, as `momok.model` and so on. Importing the package loads none of them.
"""

__version__ = "0.1.0"
