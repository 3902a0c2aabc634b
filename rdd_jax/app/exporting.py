"""The job behind ``rdd export``: a distilled set in the form that another tool reads, with how to read it."""

from pathlib import Path
from typing import Any

from rdd_jax.app import options
from rdd_jax.app.commands import Export
from rdd_jax.app.forms import FORMS
from rdd_jax.app.run_folder import Run
from rdd_jax.arrays import write_npz
from rdd_jax.files import check_new, new_folder, write_json, write_text
from rdd_jax.networks.recipe_files import write_recipe
from rdd_jax.saving import SavedSet, load_set

__all__ = ["export"]


def export(config: Export) -> Path:
    """Makes a folder with the set of a run in the form ``config.to``, its preprocessing and a README; the folder.

    Whole or not there: it is made under another name and moved.

    Raises:
      InputError: no finished run, a folder that exists, or a form whose package is not installed.
    """
    options.check(config)
    run = Run(Path(config.run))
    run.config()
    saved = load_set(run.folder / "synthetic.npz")
    out = config.out or run.folder / f"export-{config.to}"
    check_new(out)
    write, snippet = FORMS[config.to]
    with new_folder(out) as folder:
        write(folder, saved)
        write_npz(folder / "preprocess.npz", **saved.preprocess.to_arrays())
        write_json(folder / "preprocess.json", _preprocessing(saved))
        if saved.recipe is not None:
            write_recipe(folder / "recipe.json", saved.recipe)
        write_text(folder / "README.md", _readme(saved, snippet))
    return out


def _preprocessing(saved: SavedSet) -> dict[str, Any]:
    """What takes pixels to the space that the set was learned in; the matrix of ZCA is in ``preprocess.npz`` alone."""
    kind = saved.preprocess.kind
    values: dict[str, Any] = {"kind": kind, "class_names": list(saved.class_names)}
    if saved.preprocess.basis is None:
        values |= {"mean": saved.preprocess.mean.ravel().tolist(), "scale": saved.preprocess.scale.ravel().tolist()}
    return values


def _readme(saved: SavedSet, snippet: str) -> str:
    count, shape = len(saved.synthetic.images), tuple(saved.synthetic.images.shape[1:])
    return f"""# A distilled set of {count} images, {len(saved.class_names)} classes

Images of {" x ".join(map(str, shape))}, made by rdd_jax. Test images go through the same preprocessing as these did,
`{saved.preprocess.kind}`, before a model that was trained on the set sees them: `model space` below, `preprocess.json`.
`recipe.json` is how a network is trained on it.

```python
{snippet}```
"""
