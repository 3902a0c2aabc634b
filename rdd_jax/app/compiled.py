"""What XLA compiles for one command is kept for the next, by JAX's persistent compilation cache.

The key of a program there does not say which instructions the processor has. Hence a folder a kind of processor: a home
may be shared by many.
"""

import hashlib
import platform
import re
import tempfile
import warnings
from pathlib import Path

import jax

from rdd_jax.datasets.decoded import cache_dir
from rdd_jax.errors import InputWarning

__all__ = ["compiled_folder", "keep_compiled", "mended"]


def keep_compiled(on: bool = True) -> None:
    """Lets JAX keep what it compiles and take it from there; not ``on``, it neither keeps nor takes.

    JAX's own settings stand: a folder (``JAX_COMPILATION_CACHE_DIR``), none (``JAX_ENABLE_COMPILATION_CACHE=false``),
    and how many seconds a program must have taken to be kept (``JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS``; 1).

    Before anything is compiled: JAX does not look again. Where the folder cannot be written, an `InputWarning` says so.
    """
    if not on:
        jax.config.update("jax_enable_compilation_cache", False)
    elif jax.config.values["jax_enable_compilation_cache"] and not jax.config.values["jax_compilation_cache_dir"]:
        folder = compiled_folder()
        if folder is not None:
            jax.config.update("jax_compilation_cache_dir", str(folder))


def compiled_folder() -> Path | None:
    """The folder of this kind of processor, made where it is not there; None, with a warning, where it cannot be."""
    try:
        folder = cache_dir() / "compiled" / _processor()
        # What lies there is run: it is the user's alone.
        folder.mkdir(0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # the latter: a user without a home
        told = f"{str(error.filename)!r}: {error.strerror}" if isinstance(error, OSError) else str(error)
        warnings.warn(
            f"what is compiled cannot be kept ({told}): set RDD_CACHE to a folder that can be written, or say "
            "`rdd --no-compilation-cache`",
            InputWarning,
            stacklevel=2,
        )
        return None


def _processor() -> str:
    """A name for processors with the same instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = sorted({line for line in lines if re.match("model name|flags|Features|CPU ", line)})
    except OSError:
        told = [platform.processor()]
    return f"{platform.machine()}-{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}"


def mended(told: str) -> str:
    """What to say of a program that JAX could not read back, from JAX's own words.

    A process that was killed leaves half a file, which JAX would never replace. It is removed where the folder is ours.
    """
    found = re.search(r"entry for '([^']+)'", told)
    program, folder = found[1] if found else "a program", Path(jax.config.values["jax_compilation_cache_dir"] or "")
    if found and folder.parent == cache_dir() / "compiled":
        for file in folder.glob(f"{program}-*"):
            file.unlink(missing_ok=True)
        return f"{program}, compiled before, cannot be read back from {str(folder)!r}: it is compiled anew"
    return f"{program}, compiled before, cannot be read back: remove it from {str(folder)!r}"
