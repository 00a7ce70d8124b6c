"""Import mosaicml-streaming where no torchvision fits the build of torch.

In:  nothing.   Out: the module `streaming`.
Guarantee: the real torchvision where it works; else modules without content, which is enough for arrays.

    import_streaming().MDSWriter(out="DIR", columns={"tokens": "ndarray:uint16"})
"""

from __future__ import annotations

import importlib
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any


def import_streaming() -> Any:
    """mosaicml-streaming imports torchvision for images; one that does not fit a CPU build of torch ends the import."""
    try:
        return importlib.import_module("streaming")
    except (ImportError, RuntimeError):
        for name in [each for each in sys.modules if each.split(".")[0] in ("streaming", "torchvision")]:
            del sys.modules[name]
        for name in ("", ".datasets", ".transforms", ".transforms.functional"):
            stub = sys.modules[f"torchvision{name}"] = types.ModuleType(f"torchvision{name}")
            stub.__spec__ = ModuleSpec(stub.__name__, None)
            stub.VisionDataset = stub.to_tensor = object  # type: ignore[attr-defined]
        return importlib.import_module("streaming")
