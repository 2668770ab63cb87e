"""The part of torch that gpukmeans uses, for machines without it: tensors on the host and on emulated devices."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import numpy as np

from tests.emulator.memory import CURRENT, DeviceArray


class _Dtype(SimpleNamespace):
    def __str__(self):
        return f"torch.{self.name}"


class Tensor:
    """A NumPy array, or an array on an emulated device; with a gradient, on request."""

    def __init__(self, inner, *, requires_grad=False):
        self.inner, self.shape, self.requires_grad = inner, inner.shape, requires_grad
        self.dtype = _Dtype(name=inner.dtype.name)
        on_device = isinstance(inner, DeviceArray)
        self.device = SimpleNamespace(type="cuda" if on_device else "cpu")

    def _refuse_gradients(self):
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() or export a Tensor that requires grad. Use tensor.detach() instead.")

    def __dlpack_device__(self):
        return self.inner.__dlpack_device__()

    def __dlpack__(self, **_):
        self._refuse_gradients()
        return self.inner

    def __array__(self, dtype=None, copy=None):
        return self.numpy().__array__(dtype)

    def __len__(self):
        return self.shape[0]

    def detach(self):
        return Tensor(self.inner)

    def cpu(self):
        return Tensor(self.inner.host_view().copy()) if self.device.type == "cuda" else self

    def numpy(self, *, force=False):
        if force:
            return self.detach().cpu().numpy()
        self._refuse_gradients()
        if self.device.type == "cuda":
            raise TypeError("can't convert cuda device type tensor to numpy. Use Tensor.cpu() first.")
        return self.inner


def from_numpy(array):
    assert isinstance(array, np.ndarray)
    return Tensor(array)


def from_dlpack(array):
    assert isinstance(array, DeviceArray)
    assert CURRENT[-1] == array.__dlpack_device__()[1], "torch waits for a stream of another device"
    return Tensor(array)


def module():
    """A module for `sys.modules["torch"]`."""
    torch = ModuleType("torch")
    torch.Tensor, torch.from_numpy, torch.from_dlpack = Tensor, from_numpy, from_dlpack
    return torch
