"""The report of a run or an evaluation: ``report.json`` for programs, ``report.html`` for people."""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from rdd_jax.progress import duration
from rdd_jax.selection.certificate import Certificate

__all__ = [
    "CAPTION",
    "MAIN",
    "RUNAWAY",
    "STYLE",
    "WRITTEN",
    "epoch_rows",
    "facts",
    "looked_at",
    "matched",
    "render_html",
    "sentences",
    "table_rows",
    "times",
    "weighed",
]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
tr.ours { font-weight: 600; background: #f2f7ff }
img { max-width: 100% }
details { margin: 1rem 0 } pre { background: #f6f6f6; padding: .8rem; overflow-x: auto }
"""

CAPTION = (
    "On test images, by a learner fitted to the set alone: networks of the size and recipe that their names say, else "
    "of DC's; random, kmeans and herding are real images, as many a class. ± is the standard deviation over seeds: "
    "networks, or draws of the baseline."
)


MAIN = ("accuracy", "worst_group", "deo_m", "cluster_min")
"""Metrics of the short table; corruptions stand there too."""

RUNAWAY = 0.01
"""Share of pixels outside [0, 1] from which on it is said in words."""

WRITTEN = {
    "deo_m": "DEO_M",
    "deo_a": "DEO_A",
    "cvar_error": "CVaR error",
    "cluster_min": "Cluster-min",
    "cluster_mean": "Cluster-mean",
}


def table_rows(evaluations: Sequence[Mapping[str, Any]], short: bool = False) -> tuple[list[str], list[list[str]]]:
    """``(header, rows)``: a set a row, a learner and metric a column, percent with the deviation over seeds.

    Args:
      short: only the metrics of `MAIN` and accuracies under corruptions.
    """
    kept = [e for e in evaluations if not short or e["metric"] in MAIN or e["metric"].startswith("accuracy:")]
    columns = list(dict.fromkeys((e["learner"], e["metric"]) for e in kept))
    cells = {(e["set"], e["learner"], e["metric"]): _percent(e) for e in kept}
    header = ["set", *(f"{learner}\n{_metric(metric)}, %" for learner, metric in columns)]
    names = list(dict.fromkeys(e["set"] for e in kept))
    return header, [[name, *(cells.get((name, *column), "") for column in columns)] for name in names]


def _metric(name: str) -> str:
    """As it is written elsewhere."""
    return WRITTEN.get(name, name.replace("_", " ").replace(":", ": "))


def _percent(evaluation: Mapping[str, Any]) -> str:
    mean = f"{100 * evaluation['mean']:.1f}"
    seeds = len(evaluation["seeds"])
    return f"{mean} ± {100 * evaluation['std']:.1f}" if seeds > 1 else mean


_MOST_EPOCHS = 12
"""Rows of a table of epochs."""


def epoch_rows(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """``(header, rows)`` of a training: its epochs, of many some evenly, the first and the last among them."""
    measures = [name for name in ("validation_accuracy", "validation_worst_group") if name in rows[0]]
    header = ["epoch", *(f"{name.replace('_', ' ')}, %" for name in measures), "time"]
    every = -(-(len(rows) - 1) // (_MOST_EPOCHS - 1)) or 1
    shown = [row for row in rows if (rows[-1]["epoch"] - row["epoch"]) % every == 0 or row is rows[0]]
    return header, [
        [str(row["epoch"]), *(f"{100 * row[name]:.1f}" for name in measures), duration(row["seconds"])] for row in shown
    ]


def facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a reader must know of the figures, as (name, value)."""
    return [
        ("data", report["data"]),
        ("method", report["method"]),
        ("images a class", str(report["ipc"])),
        ("steps", str(report["steps"])),
        ("time", times(report["seconds"])),
        ("peak memory", f"{report['peak_memory_bytes'] / 2**30:.2f} GiB"),
        ("device", report["device"]),
    ]


def times(seconds: Mapping[str, float]) -> str:
    """In words: the whole, and every stage of it that is worth a word."""
    parts = [f"{name} {duration(taken)}" for name, taken in seconds.items() if name != "whole" and taken >= 0.1]
    return f"{duration(seconds['whole'])} ({', '.join(parts)})" if parts else duration(seconds["whole"])


def sentences(report: Mapping[str, Any]) -> list[str]:
    """What a reader wants to know of the set and of the groups, in words."""
    said = []
    if best := report.get("best"):
        said.append(
            f"The set is that of step {best['step']}, which was the best on validation: "
            f"{100 * best['validation_accuracy']:.1f} %."
        )
    for e in report["evaluations"]:
        if e["metric"] == "worst_group" and e["set"] == "synthetic":
            where = e["where"]
            low, high = (100 * end for end in e["interval"])
            said.append(
                f"Worst group of the synthetic set under {e['learner']}: class {where['class']}, {where['group']} "
                f"({where['size']} test examples): {100 * e['mean']:.1f} % (95 % bootstrap interval of the least "
                f"accuracy {low:.1f} to {high:.1f})."
            )
    pixels = report["pixels"]
    if pixels["outside"] > RUNAWAY:
        said.append(
            f"{100 * pixels['outside']:.1f} % of the pixels of the synthetic set lie outside [0, 1], the farthest by "
            f"{pixels['farthest']:.2f}: pictures clip them, learners see them as they are."
        )
    if certificate := report.get("certificate"):
        said += ["Of the real images that the set started from:", *Certificate(**certificate).sentences()]
    if found := report.get("found_groups"):
        groups = f"Grouping {found['grouping']} trained with {found['groups']} groups"
        said.append(f"{groups}{matched(found.get('match', {}))}.{weighed(found)}")
    return said


def weighed(found: Mapping[str, Any]) -> str:
    """How much the images count, as a sentence to follow; empty where a risk over groups tells."""
    if "weight" not in found:
        return ""
    least, largest = found["weight"]["least"], found["weight"]["largest"]
    if least == largest:
        return " Nothing was worth protecting: all images count the same."
    return f" What protects them: images count {least:.2g} to {largest:.2g} times as much as on average."


def matched(match: Mapping[str, float]) -> str:
    """How well found groups agree with the data's own, as the end of a sentence; empty where that is not known."""
    if "minority_recall" not in match:
        return ""
    precision = match.get("minority_precision")
    told = f"; {100 * match['minority_recall']:.0f} % of the minority examples of train lie in groups that are mostly "
    told += "minority" if precision is None else f"minority, and {100 * precision:.0f} % of those groups are minority"
    within = match["adjusted_mutual_information_within_class"]
    return f"{told} (adjusted mutual information with the data's groups within a class {within:.2f})"


def looked_at(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of what a grouping looked at before it chose, a candidate a row; empty where nothing is told."""
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in names)
    body = "".join("<tr>" + "".join(_value(row.get(name)) for name in names) + "</tr>" for row in rows)
    return f"<h2>What was looked at</h2><table><tr>{head}</tr>{body}</table>"


def _value(value: Any) -> str:
    """A cell of that table."""
    if isinstance(value, bool) or value is None:
        return f"<td>{ {True: 'yes', False: 'no', None: '-'}[value] }</td>"
    if isinstance(value, int | float):
        return f"<td class='number'>{value if isinstance(value, int) else f'{value:.3g}'}</td>"
    return f"<td>{html.escape(str(value))}</td>"


def _subgroups(subgroups: Mapping[str, Any]) -> str:
    """The table of every (class, group) cell under the first learner, worst first for the synthetic set; folded."""
    tables = next(iter(subgroups["predictions"].values()))
    sets = list(tables)
    rows = []
    for c, class_name in enumerate(subgroups["class_names"]):
        for g, group_name in enumerate(subgroups["group_names"]):
            count = subgroups["test_count"][c][g]
            if count:
                accuracy = [100 * tables[s]["correct"][c][g] / tables[s]["count"][c][g] for s in sets]
                trained = "-" if subgroups["train_count"] is None else str(subgroups["train_count"][c][g])
                cells = [class_name, group_name, trained, str(count)]
                rows.append((accuracy[0], [*cells, *(f"{a:.1f}" for a in accuracy)]))
    head = "".join(
        f"<th>{html.escape(n)}</th>" for n in ("class", "group", "train", "test", *(f"{s}, %" for s in sets))
    )
    body = "".join("<tr>" + "".join(f"<td>{html.escape(v)}</td>" for v in row) + "</tr>" for _, row in sorted(rows))
    return f"<details><summary>every group</summary><table><tr>{head}</tr>{body}</table></details>"


def render_html(report: Mapping[str, Any], config: str, pictures: Mapping[str, bytes]) -> str:
    """One self-contained page: the table, the facts, the pictures inlined, the configuration."""
    header, rows = table_rows(report["evaluations"])
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(_row(row) for row in rows)
    listed = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in facts(report))
    figures = "".join(
        f"<h2>{html.escape(name)}</h2><img alt='{html.escape(name)}' "
        f"src='data:image/png;base64,{base64.b64encode(png).decode()}'>"
        for name, png in pictures.items()
    )
    title = html.escape(f"{report['method']} on {report['data']}, {report['ipc']} images a class")
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in [CAPTION, *sentences(report), *report["notes"]])
    figures += _subgroups(report["subgroups"]) if "subgroups" in report else ""
    figures += looked_at(report.get("found_groups", {}).get("evidence", []))
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
        f"</head><body><h1>{title}</h1><table><tr>{head}</tr>{body}</table>{notes}<table>{listed}</table>{figures}"
        f"<details><summary>configuration</summary><pre>{html.escape(config)}</pre></details></body></html>\n"
    )


def _row(row: Sequence[str]) -> str:
    cells = "".join(f"<td class='number'>{html.escape(cell)}</td>" for cell in row[1:])
    ours = " class='ours'" if row[0] == "synthetic" else ""
    return f"<tr{ours}><td>{html.escape(row[0])}</td>{cells}</tr>"
