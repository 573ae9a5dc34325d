"""UserError: the root of every error that a user can mend.

    UserError                  exit code 2 and one line on the command line
    ├── UnresolvedName         model.names       a name that leads to no id, or to several
    ├── VocabularyError        model.vocabulary  a vocabulary file that cannot be read
    ├── PictureError           model.pictures    a file that cannot be shipped as a picture
    ├── BundleError            model.bundle      a bundle that cannot be opened or written
    ├── DatasetError           training.files    a dataset that cannot be opened, written or imported
    ├── ModelError             training.encoders.models  a model directory that cannot encode
    ├── RecipeError            training.recipe   a recipe that cannot be used
    ├── RunError               training.run      a run directory that cannot be used
    ├── CheckpointError        training.checkpoint
    ├── TrainingError          training.trainer  training cannot go on
    ├── GridError              training.grid     what a sweep or a comparison should vary cannot be used
    ├── TrialError             training.trials   trials cannot be run where they should
    ├── RobustnessError        training.robustness  scenarios, rates or models that cannot be compared
    ├── PlotError              training.plot     a picture that cannot be drawn
    ├── DiscoveryError         training.discovery_file  options or an output that discovery cannot use
    └── ServiceError           service.errors    a refused request; a tree of its own, with HTTP statuses

Anything else that reaches the top is our own mistake and shows its traceback.
"""


class UserError(ValueError):
    """``str(error)`` says in one line what is wrong, where, and what would be right."""
