"""Networks: the LinkPredictor contract, its parts, and the models; importing this package registers them.

May import `scores`, `rotation`, `errors` and `arrays` of `model`, neither `retrieval` nor `bundle`.
"""

from momok.model.networks import adamf as _adamf  # noqa: F401
from momok.model.networks import mocme as _mocme  # noqa: F401
from momok.model.networks import momok as _momok  # noqa: F401
