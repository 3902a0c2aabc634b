"""One mesh of devices: real images and batches over its axis ``data``, networks over ``net``, all else on every device.

Within `jax.set_mesh` of a mesh of `mesh_by_name` every function of this library uses it; the results are those of one
device but for rounding. Without a mesh nothing here does anything.
"""

import os
import re
import resource
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from math import prod
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Num

from rdd_jax.errors import InputError

__all__ = [
    "AUTO",
    "Rows",
    "check_mesh_name",
    "host_memory",
    "mesh_by_name",
    "placed",
    "replicated",
    "side_by_side",
    "size_of",
    "spread",
    "within",
]

T = TypeVar("T")

AUTO = "auto"
AXES = ("data", "net")


def check_mesh_name(name: str) -> dict[str, int]:
    """The axes that a name such as ``data=4,net=2`` means; none for ``auto``.

    Raises:
      InputError: a name of another form.
    """
    if name == AUTO:
        return {}
    axes: dict[str, int] = {}
    for part in name.split(","):
        found = re.fullmatch(r"\s*(\w+)=([1-9]\d*)\s*", part)
        if not found or found[1] not in AXES or found[1] in axes:
            raise InputError(f"mesh is {name!r}: give auto, or data=N, net=N or both with a comma, each at least 1")
        axes[found[1]] = int(found[2])
    return axes


def mesh_by_name(name: str, batch: int | None = None, networks: int | None = None) -> Mesh:
    """A mesh with the axes ``data`` and ``net``.

    Args:
      name: ``auto``: all devices along ``data``, or as many of them as divide the batch, and where ``networks`` are
        given as many of the others along ``net`` as divide those; or sizes, ``data=4,net=2``.
      batch: real examples of a step; None where there are no steps.
      networks: that a step looks at `side_by_side`; None where it does not.

    Raises:
      InputError: a name of another form, more devices than there are, a batch that ``data`` does not divide, networks
        that ``net`` does not divide.
    """
    axes, devices = check_mesh_name(name), jax.devices()
    if not axes:
        if jax.process_count() == 1:
            along = _most(len(devices), batch or 0)
            axes = {"data": along, "net": _most(len(devices) // along, networks or 1)}
        else:  # all of them, whether that divides or not
            axes = {"data" if networks is None else "net": len(devices)}
    sizes = [axes.get(axis, 1) for axis in AXES]
    if prod(sizes) > len(devices):
        kind = devices[0].platform
        raise InputError(f"mesh is {name!r}, {prod(sizes)} devices, but there are {len(devices)} ({kind}): give auto")
    if batch is not None and batch % sizes[0]:
        raise InputError(f"mesh has data={sizes[0]}, which does not divide the batch of {batch}: change one of them")
    if networks is not None and networks % sizes[1]:
        what = f"the networks of a step, {networks}"
        raise InputError(f"mesh has net={sizes[1]}, which does not divide {what}: change one of them")
    if jax.process_count() > 1 and prod(sizes) < len(devices):
        raise InputError(f"mesh is {name!r}, but {jax.process_count()} hosts have {len(devices)} devices: use them all")
    return Mesh(np.array(devices[: prod(sizes)]).reshape(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _most(devices: int, things: int) -> int:
    """How many of the devices share things evenly; all of them where there are none."""
    return next(n for n in range(devices, 0, -1) if things % n == 0)


def within(mesh: Mesh) -> AbstractContextManager[object]:
    """The block in which the library uses a mesh; one of a single device is none."""
    return jax.set_mesh(mesh) if mesh.size > 1 else nullcontext()


def host_memory() -> int:
    """Bytes that this process may have: what the machine has, or less where it is limited."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return there if limit == resource.RLIM_INFINITY else min(there, limit)


def size_of(axis: str) -> int:
    """Of an axis of the mesh that is set; 1 without one."""
    return jax.sharding.get_abstract_mesh().shape.get(axis, 1)


def spread(values: Array, axis: int = 0) -> Array:
    """Inside ``jit``: values over ``data`` along their ``axis``, where that divides it."""
    if size_of("data") == 1 or values.shape[axis] % size_of("data"):
        return values
    return jax.lax.with_sharding_constraint(values, PartitionSpec(*[None] * axis, "data"))


def replicated(tree: T) -> T:
    """Inside ``jit``: values that every device has."""
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.lax.with_sharding_constraint(tree, PartitionSpec())


def side_by_side(work: Callable[[Any, Any], Any], shared: Any, each: Any) -> Any:
    """Inside ``jit``: ``work(shared, one)`` of every entry of ``each``, stacked; over ``net`` where that divides them.

    Those of a device one after another: at once, convolutions of several networks would be grouped ones, which take
    2.5 times as long on a GPU. May be differentiated.
    """

    def one_by_one(shared: Any, each: Any) -> Any:
        return jax.lax.map(partial(work, shared), each)

    if size_of("net") == 1 or len(jax.tree.leaves(each)[0]) % size_of("net"):
        return one_by_one(shared, each)
    every, net = PartitionSpec(), PartitionSpec("net")
    return jax.shard_map(one_by_one, in_specs=(every, net), out_specs=net, check_vma=False)(shared, each)


@runtime_checkable
class Rows(Protocol):
    """An array ``[n, ...]`` on the host, or what gives parts of one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> np.ndarray: ...


def placed(rows: Rows) -> Num[Array, "N *shape"]:
    """Rows on the devices: over ``data``, the last ones repeated so that it divides them, or on the only one.

    A device is handed its own rows and no others.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.empty or mesh.shape["data"] == 1:
        return jax.device_put(np.asarray(rows))  # and not `jnp.asarray`, which would copy them on a CPU too
    along = mesh.shape["data"]
    whole = -(-len(rows) // along) * along

    def own(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None
        start, stop, _ = index[0].indices(whole)
        part = rows[start:stop]
        return part if len(part) == stop - start else rows[np.minimum(np.arange(start, stop), len(rows) - 1)]

    return jax.make_array_from_callback((whole, *rows.shape[1:]), NamedSharding(mesh, PartitionSpec("data")), own)
