"""What the command line shows: tables that fit, names as they are, and how far a job is."""

import io
import time

import pytest
from rich.console import Console

from rdd_jax.app import drawing
from rdd_jax.app.drawing import Drawn, draw_report, draw_table
from rdd_jax.app.report import render_html, table_rows
from rdd_jax.progress import SILENT, Course, Progress, Stages, duration, each, heard, part

ODD = ["$x^$", "[bold]", "[/x]", "<b>&", "a\\b_c", "\"'", ":smile:", "\N{GRINNING FACE}"]
METRICS = ["accuracy", "worst_group", "adjusted", "deo_m", "deo_a", "cvar_error", "cluster_min", "cluster_mean"]
METRICS += ["accuracy:gaussian-noise", "accuracy:invert"]


def line(set_name, metric="accuracy", learner="krr", seeds=2, **more):
    return {
        "set": set_name, "learner": learner, "metric": metric, "mean": 0.5, "std": 0.123, "seeds": [0] * seeds, **more
    }  # fmt: skip


def report(name, **more):
    where = {"class": name, "group": name, "size": 3}
    evaluations = [line("synthetic", "worst_group", where=where, interval=[0.1, 0.2]), line(name)]
    cells = {"correct": [[1]], "count": [[3]]}
    values = {"data": name, "method": "kip", "ipc": 1, "steps": 2, "seconds": {"reading": 0.5, "whole": 90.0}}
    values |= {"subgroups": {"class_names": [name], "group_names": [name], "train_count": [[2]], "test_count": [[3]]}}
    values["subgroups"]["predictions"] = {"krr": {"synthetic": cells, name: cells}}
    return (
        values
        | {
            "peak_memory_bytes": 0,
            "pixels": {"outside": 0.5, "farthest": 1.0},
            "device": "CPU",
            "evaluations": evaluations,
            "notes": [name],
        }
        | more
    )


@pytest.mark.parametrize("name", ODD)
def test_names_are_shown_as_they_are(name, capsys):
    draw_report(report(name))
    draw_table([name, name], [[name, "1"]], title=name)
    assert capsys.readouterr().out.count(name) >= 8


@pytest.mark.parametrize("name", ODD)
def test_names_are_text_in_the_page(name):
    page = render_html(report(name), name, {name: b""})
    if "<" in name:
        assert name not in page
    else:
        assert page.count(name.replace('"', "&quot;").replace("'", "&#x27;")) >= 8


@pytest.mark.parametrize("names", [["synthetic", "random", "kmeans", "herding"], ["runs/" + "long" * 30 + "/a", "b"]])
@pytest.mark.parametrize("short", [False, True])
def test_tables_fit_eighty_columns_and_split_no_word(names, short, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    learners = ["krr", "convnet", "resnet18"]
    lines = [line(name, metric, learner) for learner in learners for name in names for metric in METRICS]
    header, rows = table_rows(lines, short)
    draw_table(header, rows, "a title")
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    words = text.split()
    for cell in header:
        assert all(text.count(word) >= 1 and word in words for word in cell.split())
    assert text.count("50.0 ± 12.3") == len(names) * (len(header) - 1)


# --- progress ----------------------------------------------------------------------------------------


class Clock:
    """A clock that stands still."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    "seconds, words",
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations_are_said_in_words(seconds, words):
    assert duration(seconds) == words


def test_a_course_says_what_is_done_for_how_long_and_how_long_it_will_take():
    clock = Clock()
    course = Course(clock)
    course.stage("grouping")
    clock.now += 65
    assert course.words() == "grouping, 1 min 5 s so far"
    course.stage("distilling")
    course.step(100, 200, "")  # 100 were done before
    clock.now += 60
    course.step(110, 200, "loss 2")  # these compiled, too
    assert course.words() == "distilling, 110 of 200 (loss 2), 1 min 0 s so far, about 9 min 0 s left"
    clock.now += 10
    course.step(120, 200, "loss 1")
    clock.now += 5
    assert course.words() == "distilling, 120 of 200 (loss 1), 1 min 15 s so far, about 1 min 15 s left"


def test_parts_and_what_is_done_in_them_are_told_as_one_course():
    told = []
    with heard(Progress(told.append, lambda *step: told.append(step))):
        for name in each(["a", "b"]):
            with part(1, 4, "half"):
                assert name == "b" or list(each(range(2), "{}".format)) == [0, 1]
        for _ in each(range(1), lambda i: "other"):
            pass
    for _ in each(range(3)):
        told.append("nobody listens")
    assert told == [
        (0, 2, "a"), (0.25, 2, "a, half"), (0.25, 2, "a, half, 0"), (0.375, 2, "a, half"), (0.375, 2, "a, half, 1"),
        (0.5, 2, "a, half"), (0.5, 2, "a"), (1, 2, ""), (1, 2, "b"), (1.25, 2, "b, half"), (1.5, 2, "b"), (2, 2, ""),
        (0, 1, "other"), (1, 1, ""), *["nobody listens"] * 3,
    ]  # fmt: skip


def test_a_loop_after_a_loop_does_not_take_a_piece_back():
    told = []
    with heard(Progress(told.append, lambda done, pieces, note: told.append(done))), part(0, 1, ""):
        for count in (4, 2):
            for _ in each(range(count)):
                pass
    assert told == sorted(told)


def test_another_loop_of_a_stage_is_timed_by_itself():
    clock = Clock()
    course = Course(clock)
    course.stage("grouping")
    for done in (0, 0.5, 0.5, 1.5):
        course.step(done, 2, "a")
        clock.now += 40
    assert course.words() == "grouping, 1 of 2 (a), 2 min 40 s so far"
    course.step(0, 7, "trial")
    assert course.words() == "grouping, 0 of 7 (trial), 2 min 40 s so far"


def lines_of(clock, terminal=False):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80, soft_wrap=True, markup=False, highlight=False)
    return stream, Drawn(clock, console)


FIRST = [(20, "1 of 10, 20.0 s so far, about 3 min 0 s left"), (10, "2 of 10, 30.0 s so far, about 2 min 40 s left")]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("first, said", FIRST)
def test_a_long_stage_is_announced_once_when_its_first_pieces_are_timed(first, said, terminal):
    clock = Clock()
    stream, drawn = lines_of(clock, terminal)
    with drawn:
        drawn.progress.stage("evaluating by [krr]")
        for done in range(4):
            drawn.progress.step(done, 10, "")
            clock.now += 20 if done else first
        drawn.progress.stage("reporting")
        drawn.progress.step(0, 10, "")
        clock.now += 5
        drawn.progress.step(1, 10, "")
        drawn.progress.step(2, 10, "")
    assert stream.getvalue().count(said) == 1
    assert stream.getvalue().count(" left\n") == 1


def test_where_there_is_no_terminal_a_line_comes_now_and_then(monkeypatch):
    assert drawing.EVERY == 30
    monkeypatch.setattr(drawing, "EVERY", 0.01)
    stream, drawn = lines_of(Clock())
    with drawn:
        drawn.progress.stage("grouping")
        deadline = time.monotonic() + 10
        while stream.getvalue().count("grouping, 0.0 s so far\n") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    said = stream.getvalue()
    time.sleep(0.05)
    assert stream.getvalue() == said


def test_stages_are_timed_under_their_names_and_add_up():
    clock = Clock()
    stages = Stages(SILENT, clock)
    for name, taken in (("reading", 2), ("grouping", 3), ("reading", 4), ("distilling", 1)):
        stages.begin(name, "digits")
        clock.now += taken
    assert stages.seconds == {"reading": 6, "grouping": 3, "distilling": 1, "whole": 10}
    stages.began_before(50)  # such as before a kill
    clock.now += 1
    assert stages.seconds == {"reading": 6, "grouping": 3, "distilling": 51, "whole": 60}
