"""Tensors between Triton's Python stub and numpy, by DLPack alone.

Stubs built with a pybind11 older than numpy 2 misread the size of an array's element: what `as_numpy` gives, and what
Triton's string tensors go through, is then the first element over and over. DLPack involves no numpy structure and
works with every stub and every numpy. It knows no strings, so texts travel as rows of UTF-8, padded with zero bytes.
"""

import ctypes
from typing import Any

import numpy as np

_set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
_set_destructor.argtypes = (ctypes.py_object, ctypes.c_void_p)
_set_destructor.restype = ctypes.c_int


class _Lent:
    """An array whose capsule is let go of in silence.

    The stub takes the capsule over and frees the tensor itself, but marks the capsule by a name of its own; numpy's
    destructor would complain about that name for every response.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options: object) -> object:
        del options
        capsule = self._array.__dlpack__()
        _set_destructor(capsule, None)
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


def rows(tensor: Any) -> np.ndarray:  # noqa: ANN401 (the stub's types have no names here)
    """Return an input tensor's values as an array."""
    return np.from_dlpack(tensor)


def texts(tensor: Any) -> list[str]:  # noqa: ANN401
    """Return the texts of an input tensor of bytes, one for each row."""
    return [row.tobytes().rstrip(b"\0").decode("utf-8", "replace") for row in rows(tensor)]


def result(pb_utils: Any, name: str, array: np.ndarray) -> Any:  # noqa: ANN401
    """Return a response with one output tensor."""
    whole = np.require(array, requirements=["C", "W"])
    return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack(name, _Lent(whole))])
