"""torchvision, imported without torch's compiler: the import of the two takes ten times as long.

torchvision 0.29 imports the compiler (`torch._dynamo`) for one function, by which one layer of its detectors asks
whether it can be compiled. That function gets a stand-in which imports the compiler when it is called.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
_ASKED = f"{COMPILER}.utils"


def torchvision_models() -> ModuleType:
    """The module `torchvision.models`. Called late: its import takes time, and checking params.yaml does not need
    it."""
    try:
        with _compiler_later():
            from torchvision import models
    except ImportError:  # another version, which needs more of the compiler
        from torchvision import models
    return models


@contextmanager
def _compiler_later() -> Iterator[None]:
    """Stand-ins for the compiler's modules meanwhile, unless it is imported already."""
    if COMPILER in sys.modules or "torchvision" in sys.modules:
        yield
        return
    asked: Any = ModuleType(_ASKED)
    asked.is_compile_supported = _is_compile_supported
    sys.modules |= {COMPILER: ModuleType(COMPILER), _ASKED: asked}
    try:
        yield
    finally:
        del sys.modules[COMPILER], sys.modules[_ASKED]


def _is_compile_supported(device: Any) -> Any:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device)
