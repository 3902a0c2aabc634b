"""The report of a run or an evaluation: ``report.json`` for programs, ``report.html`` for people."""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

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
    "On test images, by a learner fitted to the set alone; random, kmeans and herding are real images, as many a "
    "class. ± is the standard deviation over seeds: networks, or draws of the baseline."
)


def table_rows(evaluations: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """``(header, rows)``: a set a row, a learner and metric a column, percent with the deviation over seeds."""
    columns = list(dict.fromkeys((e["learner"], e["metric"]) for e in evaluations))
    cells = {(e["set"], e["learner"], e["metric"]): _percent(e) for e in evaluations}
    header = ["set", *(f"{learner} {metric}, %" for learner, metric in columns)]
    names = list(dict.fromkeys(e["set"] for e in evaluations))
    return header, [[name, *(cells.get((name, *column), "") for column in columns)] for name in names]


def _percent(evaluation: Mapping[str, Any]) -> str:
    mean = f"{100 * evaluation['mean']:.1f}"
    seeds = len(evaluation["seeds"])
    return f"{mean} ± {100 * evaluation['std']:.1f}" if seeds > 1 else mean


def facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a reader must know of the figures, as (name, value)."""
    return [
        ("data", report["data"]),
        ("method", report["method"]),
        ("images a class", str(report["ipc"])),
        ("steps", str(report["steps"])),
        ("seconds", f"{report['seconds']:.1f}"),
        ("peak memory", f"{report['peak_memory_bytes'] / 2**30:.2f} GiB"),
        ("device", report["device"]),
    ]


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
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in [CAPTION, *report["notes"]])
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
        f"</head><body><h1>{title}</h1><table><tr>{head}</tr>{body}</table>{notes}<table>{listed}</table>{figures}"
        f"<details><summary>configuration</summary><pre>{html.escape(config)}</pre></details></body></html>\n"
    )


def _row(row: Sequence[str]) -> str:
    cells = "".join(f"<td class='number'>{html.escape(cell)}</td>" for cell in row[1:])
    ours = " class='ours'" if row[0] == "synthetic" else ""
    return f"<tr{ours}><td>{html.escape(row[0])}</td>{cells}</tr>"
