"""What training writes and the service reads.

Array names end in their axes, one letter each:

    B queries    N entities    C candidates    D width     M modalities
    K experts    F features    R relations     P positives (query, true answer)
    X several parts side by side: branches, or the real and imaginary parts of complex coordinates

Relations inside this package run over ``[0, 2R)``: ``r + R`` is the inverse of ``r``, so every query asks
for a tail.
"""

__version__ = "0.1.0"

from model import adamf as _adamf  # noqa: F401  (registers the models)
from model import mocme as _mocme  # noqa: F401
from model import momok as _momok  # noqa: F401
