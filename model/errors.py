"""UserError: the root of every error that a user can mend. Modules below are parts of ``momok``.

    UserError                  exit code 2 and one line on the command line
    ├── UnresolvedName         model.bundle.names            a name that leads to no id, or to several
    ├── VocabularyError        model.bundle.vocabulary       a vocabulary file that cannot be read
    ├── SearchTooLong          model.bundle.vocabulary       a search that was given up
    ├── PictureError           model.bundle.pictures         a file that cannot be shipped as a picture
    ├── BundleError            model.bundle.bundle           a bundle that cannot be opened or written
    ├── DatasetError           training.data.files           a dataset that cannot be read or written
    ├── ModelError             training.encoders.models.base  a model directory that cannot encode
    ├── RecipeError            training.fit.recipe           a recipe that cannot be used
    ├── RunError               training.fit.run              a run directory that cannot be used
    ├── CheckpointError        training.fit.checkpoint       a checkpoint that cannot be read or written
    ├── TrainingError          training.fit.trainer          training cannot go on
    ├── DiscoveryError         training.discovery.output     an output that cannot be used
    └── ServiceError           service.contract.errors       a refused request; its own tree, by HTTP status

Any other exception that reaches the top is a bug and shows its traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(ValueError):
    """``str(error)`` says in one line what is wrong, where, and what would be right."""


def describe(error: ValidationError) -> str:
    """A pydantic error in one line: ``field: what is wrong``, one field after the other."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'value'}: {item['msg']}" for item in error.errors()
    )
