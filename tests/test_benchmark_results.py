"""The tables and figures of benchmarks, on made-up results: none of these numbers was measured."""

import importlib
import json
import re

import numpy as np
import pytest

tables = pytest.importorskip("benchmarks.tables", reason="benchmarks are not here")
figures = pytest.importorskip("benchmarks.figures", reason="matplotlib is not installed")
report = importlib.import_module("benchmarks.report")


def times(ours, **peers):
    return {
        library: {"median": seconds, "minimum": 0.9 * seconds}
        for library, seconds in {"torch": 2 * ours, "numba_acts": ours, **peers}.items()
    }


def made_up():
    """A results file of a CPU with every part."""
    shapes = {"softmin": [4096, 1024], "softmax2d": [21, 512, 512], "maxout": [1024, 4096, 2]}
    cases = [
        {
            "function": function,
            "work": work,
            "dtype": dtype,
            "shape": shape,
            "axis": -1,
            "bytes": 8 * int(np.prod(shape)),
            "exponentials": int(np.prod(shape)),
            "copy": 1e-3,
            "exp": 5e-4,
            "floor": 1e-3,
            "times": times(1.2e-3, onnxruntime=1.5e-3, jax=3e-3, scipy=3e-2),
        }
        for function, shape in shapes.items()
        for work in ("forward", "vjp")
        for dtype in ("float32", "float64")
    ]
    scaling = [
        {
            "function": "softmin",
            "length": length,
            "elements": elements,
            "threads": threads,
            "times": times(elements * 1e-9 / threads + 1e-6),
            "copy": elements * 5e-10,
        }
        for length in (10, 1024)
        for elements in (2**10, 2**15, 2**20, 2**25)
        for threads in (1, 2)
    ]
    accuracy = [
        {
            "function": "softmin",
            "dtype": dtype,
            "length": length,
            "scale": scale,
            "library": library,
            "worst": worst,
            "relative": 1e-7,
        }
        for dtype in ("float32", "float64")
        for length in (10, 1000, 100_000)
        for scale in (1.0, 30.0)
        for library, worst in (("numba_acts", 0.3), ("torch", 0.9), ("scipy", 4.0))
    ]
    return {
        "stamp": {
            "date": "2001-02-03",
            "processor": "Made-up processor",
            "cores": 2,
            "system": "Linux",
            "python": "3.11.7",
            "versions": {"numba_acts": "0.0.0", "numba": "0.0", "torch": "0.0"},
        },
        "cases": cases,
        "scaling": scaling,
        "small": [
            {"function": "softmin", "dtype": "float32", "shape": [32, 128], "times": times(2e-6)}
        ],
        "busy": [
            {
                "load": load,
                "function": "softmin",
                "work": work,
                "elements": elements,
                "times": {
                    library: {"median": seconds, "p90": 2 * seconds, "p99": 3 * seconds}
                    for library, seconds in busy_times(elements * 1e-9, work).items()
                },
            }
            for load in ("quiet", "no core left")
            for work in ("forward", "vjp")
            for elements in (10**4, 10**6)
        ],
        "busy_meanwhile": {
            "scaling": "The machine was busy meanwhile: made up.",
            "calls": "",
        },
        "calls": [{"call": "softmin of 32 float32, out=", "times": times(1.5e-6)}],
        "startup": {
            "import_numba": 0.5,
            "import_adds": 0.03,
            "first_calls": [{"call": "softmin", "cold": 3.2, "warm": 0.21}],
        },
        "uses": [
            {"function": "softmin", "work": "forward", "bytes": 1 << 25, "far": True}
            | {"times": {"around them, left alone": {"median": 2e-3}}}
        ],
        "memory": [
            {
                "function": "softmin",
                "work": "forward",
                "dtype": "float32",
                "shape": [4096, 1024],
                "beyond_result": 65536,
            }
        ],
        "accuracy": accuracy,
        "soak": [
            {"what": "small calls", "count": 10**7, "seconds": 99.6, "failed": [], "growth": 4096},
            {"what": "random calls", "count": 10**6, "seconds": 9.0, "failed": ["seed 7: wrong"]},
        ],
        "agreement": [
            {"project": "scipy", "version": "1.0", "cases": 5, "agree": 5}
            | {"exceptions": {}, "failed": {}},
            {"project": "torch", "version": "2.0", "cases": 9, "agree": 6}
            | {"exceptions": {"a": "it errs", "b": "it errs"}, "failed": {"c": "we err"}},
        ],
    }


def busy_times(seconds, work):
    found = {"numba_acts": seconds, "numba_acts, 1 thread": 2 * seconds, "torch": 3 * seconds}
    found["numba_acts, 8 threads"] = 1.2 * seconds
    return found | ({"onnxruntime": seconds} if work == "forward" else {})


def made_up_gpu():
    """A results file of a GPU."""
    case = {"function": "softmin", "work": "forward", "dtype": "float32", "shape": [8192, 8192]}
    return {
        "stamp": {"device": "Made-up GPU", "date": "2001-02-03"},
        "cases": [
            {**case, "seconds": 1.1e-4, "copy_seconds": 1e-4, "share": 0.91, "times": times(1.1e-4)}
        ],
    }


def rows_of(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n")]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (2.5, "2.50\xa0s"),
        (0.0123, "12.3\xa0ms"),
        (0.99996, "1.00\xa0s"),
        (1.234e-4, "123\xa0µs"),
        (1.5e-6, "1.50\xa0µs"),
        (3e-9, "3.00\xa0ns"),
        (None, ""),
    ],
)
def test_durations_have_three_digits(seconds, shown):
    assert tables.duration(seconds) == shown


def test_case_table_marks_the_fastest_and_gives_our_multiple_of_the_floor():
    head, _, first, *_ = rows_of(tables.cases(made_up()["cases"]))
    row = dict(zip(head, first, strict=True))
    assert row["function"] == "softmin"
    assert row["shape"] == "4,096\xa0×\xa01,024"
    assert row["numba_acts"] == "**1.20\xa0ms**"
    assert row["SciPy"] == "30.0\xa0ms"
    assert row["ours / floor"] == "1.20"


def test_cases_in_which_another_library_is_faster_are_named():
    cases = made_up()["cases"]
    assert tables.slower(cases) == (
        "Of 12 cases that another library has too, this one is the fastest in all."
    )
    cases[3]["times"]["scipy"]["median"] = 1e-3
    text = tables.slower(cases)
    assert "the fastest in 11. The others:" in text
    assert rows_of(text[text.index("|") :])[2:] == [
        ["softmin, vjp", "float64", "4,096\xa0×\xa01,024", "SciPy", "1.20"]
    ]
    assert tables.slower([{**cases[0], "times": {}}]) == ""


def test_cases_that_fall_short_of_what_is_demanded_are_named():
    (case,) = made_up_gpu()["cases"]
    assert tables.short([case]) == ""
    text = tables.short([{**case, "demand": 0.9}, {**case, "demand": 0.95}])
    assert text.startswith("Of 2 cases") and ", 1 reach it. The others:" in text
    assert rows_of(text[text.index("|") :])[2:] == [
        ["softmin", "float32", "8,192\xa0×\xa08,192", "91%", "95%"]
    ]
    assert tables.short([{**case, "demand": 0.9}]).endswith(", all reach it.")


def test_gpu_times_may_stand_beside_the_peers():
    head, _, first = rows_of(tables.cases(made_up_gpu()["cases"]))
    row = dict(zip(head, first, strict=True))
    assert row["numba_acts"] == "**110\xa0µs**"
    assert row["floor"] == "100\xa0µs"


def test_a_case_that_a_library_lacks_is_empty():
    cases = made_up()["cases"][:2]
    del cases[0]["times"]["scipy"]
    head, _, first, second = rows_of(tables.cases(cases))
    at = head.index("SciPy")
    assert first[at] == "" and second[at] == "30.0\xa0ms"


def test_accuracy_table_has_the_worst_of_all_rows():
    rows = made_up()["accuracy"]
    rows[0]["worst"] = 0.7
    head, _, first, _ = rows_of(tables.accuracy(rows))
    assert dict(zip(head, first, strict=True))["numba_acts"] == "0.7"
    rows[0]["worst"] = 23_986.1
    assert "| 23,986 |" in tables.accuracy(rows)


def test_other_tables():
    results = made_up()
    assert "1.50\xa0µs" in tables.calls(results["calls"])
    assert "| first `softmin` | 3.20\xa0s | 210\xa0ms |" in tables.startup(results["startup"])
    assert "65.5\xa0kB" in tables.memory_use(results["memory"])
    assert "| softmin | 33.6\xa0MB | around | 2.00\xa0ms |" in tables.uses(results["uses"])
    assert "**Made-up processor**, 2 cores" in tables.stamp(results)


def test_report_has_every_part():
    text = tables.report(made_up())
    assert re.findall("^## (.+)$", text, re.M) == [title for title, _ in tables.PARTS.values()]
    assert "| softmin | 10 | 32,768 | 2 |" in text
    assert tables.report({"stamp": {}}).startswith("**a machine that is not named**")


def test_endurance_and_agreement_are_counted():
    made = made_up()
    soak = rows_of(tables.soak(made["soak"]))
    growth = "4.1\N{NO-BREAK SPACE}kB"
    assert soak[2] == ["small calls", "10,000,000", "0", "100", growth]
    assert soak[3] == ["random calls", "1,000,000", "1", "9", ""]
    agreement = tables.agreement(made["agreement"])
    assert rows_of(agreement)[3] == ["PyTorch", "2.0", "9", "6", "2", "1"]
    assert agreement.count("it errs") == agreement.count("- PyTorch: it errs.") == 1


def test_files_are_read_those_of_gpus_last(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(made_up_gpu()))
    (tmp_path / "b.json").write_text(json.dumps(made_up()))
    assert list(tables.load(tmp_path)) == ["b", "a"]
    assert tables.load(tmp_path / "nothing") == {}


def test_report_writes_tables_and_the_figures_that_they_show(tmp_path):
    file = tmp_path / "machine.json"
    file.write_text(json.dumps(made_up()))
    text = report.write(file).read_text("utf-8")
    assert text.startswith("# Made-up processor\n\n" + tables.report(made_up()))
    shown = re.findall(r"!\[.+\]\((.+)\)", text)
    assert {
        "machine-softmax2d.svg",
        "machine-scaling.svg",
        "machine-busy.svg",
        "machine-softmin-errors.svg",
    } < {*shown}
    assert {path.name for path in tmp_path.glob("*.svg")} == {*shown}


def test_the_tables_that_are_kept_are_those_of_the_results():
    for name, results in tables.load().items():
        text = (tables.RESULTS / f"{name}.md").read_text("utf-8")
        assert tables.report(results) in text
        assert all((tables.RESULTS / at).exists() for at in re.findall(r"\((.+\.svg)\)", text))


def drawings():
    results, gpu = made_up(), made_up_gpu()
    return {
        "multiples": lambda c: figures.multiples(results["cases"], c),
        "multiples of a GPU": lambda c: figures.multiples(gpu["cases"], c),
        "scaling": lambda c: figures.scaling(results["scaling"], c),
        "busy": lambda c: figures.busy(results["busy"], c),
        "errors": lambda c: figures.errors(results["accuracy"], c),
        "headline": lambda c: figures.multiples(figures.headline(results), c),
        "nothing": lambda c: figures.multiples([], c),
    }


@pytest.mark.parametrize("name", drawings())
def test_figures_are_the_same_every_time_and_differ_between_schemes(name):
    draw = drawings()[name]
    light = figures.svg(draw)
    assert light == figures.svg(draw)
    assert light != figures.svg(draw, figures.Look(narrow=True))
    dark = figures.darkened(light)
    assert not [colour for colour in figures.flat(figures.SCHEMES["light"]) if colour in dark]
    assert figures.SCHEMES["dark"]["text"] in dark
    assert "<dc:date>" not in light


def test_a_point_lies_where_its_number_says():
    """The largest multiple of a case is drawn right of the others, on a logarithmic axis."""
    with figures.drawing(figures.Look()) as look:
        figure = figures.multiples(made_up()["cases"][:1], look)
    (axes,) = figure.axes
    points = {line.get_label(): line.get_xdata()[0] for line in axes.lines if line.get_marker()}
    assert points["numba_acts"] == pytest.approx(1.2)
    assert points["SciPy"] == pytest.approx(30)
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize("narrow", [False, True])
def test_every_point_lies_inside_the_axes(narrow):
    row = made_up()["cases"][0]
    fast = row | {
        "floor": 1.0,
        "times": {"numba_acts": {"median": 0.3}, "scipy": {"median": 900.0}},
    }
    with figures.drawing(figures.Look(narrow)) as look:
        (axes,) = figures.multiples([fast, fast], look).axes
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert left < 0.3 / 1.1 and 900 * 1.1 < right
    assert high <= -0.5 and low >= 1.5


# How eyes that lack a kind of cone see linear RGB (Machado, Oliveira, Fernandes 2009); CIE XYZ.
EYES = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colours, eyes):
    """Colours in CIELAB, whose distances are those that the eye sees: 2 is hardly noticed."""
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ EYES[eyes].T, 0, 1) @ XYZ.T / XYZ.sum(1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("scheme", figures.SCHEMES)
def test_series_are_told_apart_by_all_eyes(scheme, eyes):
    colours = figures.SCHEMES[scheme]
    seen = lab(colours["series"], eyes)
    distances = np.linalg.norm(seen[:, None] - seen, axis=-1)[np.triu_indices(len(seen), 1)]
    assert distances.min() > 18
    signs = lab([colours["negative"], colours["positive"]], eyes)
    assert np.linalg.norm(signs[0] - signs[1]) > 40


def test_no_two_colours_of_a_scheme_are_one():
    """Else a dark picture could not be made of a light one."""
    light = figures.flat(figures.SCHEMES["light"])
    assert len(set(light)) == len(light) == len(figures.flat(figures.SCHEMES["dark"]))


def test_every_peer_is_in_the_legend():
    with figures.drawing(figures.Look()) as look:
        figure = figures.scaling(made_up()["scaling"], look)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"numba_acts, 1 thread", "PyTorch, 2 threads", "copy"} <= set(labels)


def test_headline_is_one_float32_case_a_function():
    rows = figures.headline(made_up())
    assert [row["function"] for row in rows] == ["softmin", "softmax2d", "maxout"]
    assert all(re.fullmatch("float32", row["dtype"]) for row in rows)


def test_busy_table_and_figure():
    """Medians and 99th percentiles; lines for ours, ours alone, and peers that have the call."""
    rows = made_up()["busy"]
    shown = rows_of(tables.busy(rows))
    assert shown[0][3:] == [
        *("numba_acts", "numba_acts, 1 thread", "numba_acts, 8 threads"),
        *("ONNX Runtime", "PyTorch"),
    ]
    assert shown[2][:3] == ["quiet", "forward", "10,000"]
    assert shown[2][3].replace("\N{NO-BREAK SPACE}", " ") == "10.0 µs, 30.0 µs"
    assert shown[4][6] == ""  # no vjp there
    with figures.drawing(figures.Look()) as look:
        figure = figures.busy(rows, look)
    assert [axes.get_title() for axes in figure.axes] == [
        *("forward, quiet", "forward, no core left", "vjp, quiet", "vjp, no core left")
    ]
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == [
        *("numba_acts", "numba_acts, 1 thread", "ONNX Runtime", "PyTorch")
    ]
    assert list(lines[1].get_ydata()) == [2e-5, 2e-3]


def test_says_that_the_machine_was_busy():
    text = tables.report(made_up())
    (place,) = [match.start() for match in re.finditer("The machine was busy meanwhile", text)]
    assert text.index("## Time over size") < place < text.index("| function | slices of")
