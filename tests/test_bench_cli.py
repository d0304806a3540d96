"""`fastconv bench`, its pictures and cold starts, the tables of several runs, two commits."""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv.bench import coldstart, contenders, machine, run, table, timing
from fastconv.cli import main

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "bench"))  # behind everything: an installed fastconv stays in use

if (ROOT / "bench").exists():
    import compare
    import report

in_the_tree = pytest.mark.skipif(
    not (ROOT / "bench").exists(), reason="these tests stand away from the source tree"
)
PEAKS = {
    "threads": 1, "dtype": "float32", "gflops": 100.0, "gflops_by": {"NumPy matmul": 100.0},
    "copy": {"L2": 90.0, "L3": 60.0, "memory": 20.0}, "cache": {"L2": 1 << 20, "L3": 1 << 25},
}  # fmt: skip
COLD = {
    "what": "a convolution", "rounds": 5, "start_seconds": 0.09,
    "rows": [
        {"name": "fastconv", "version": "1", "megabytes": 1.62, "import_seconds": 0.02,
         "first_seconds": 0.03},
        {"name": "Peer", "version": "2", "megabytes": 1234.5, "import_seconds": 1.5,
         "first_seconds": 1.6},
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def known_peaks(request, monkeypatch):
    """The machine is measured by one test only."""
    if "really" not in request.node.name:
        found = machine.Peaks(**PEAKS)
        monkeypatch.setattr(machine, "peaks", lambda threads=1, dtype="float32": found)


def row(layer="A", op="forward", contender="fastconv direct", ratio=2.0, **more):
    return {
        "family": "Convolution", "layer": layer, "op": op, "contender": contender,
        "kind": "fastconv" if contender.startswith("fastconv") else "peer", "auto": True,
        "note": "", "seconds": 1e-3, "ratio": ratio, "best_peer": "Peer", "gflops": 50.0,
        "gbytes": 5.0, "peak_share": 0.5, "intensity": 10.0, "allocation": "fresh",
        "dtype": "float32", "threads": 1, **more,
    }  # fmt: skip


def results(threads=1, **more):
    return {
        "command": f"fastconv bench --threads {threads}",
        "date": "2025-01-31",
        "machine": {"cpu": "Some CPU", "cores": 2, "isa": "avx512", "threads": threads},
        "versions": {"fastconv": "0.1.0"},
        "missing": [],
        "peaks": PEAKS | {"threads": threads},
        "rows": [row(), row(contender="Peer", ratio=1.0), row("B", ratio=0.5)],
        **more,
    }


# --- the machine ---------------------------------------------------------------------------------


def test_peaks_are_really_measured():
    found = machine.peaks(1)
    assert found.gflops == max(found.gflops_by.values()) > 0.1
    assert "fastconv pointwise" in found.gflops_by
    assert all(rate > 0.1 for rate in found.copy.values())
    assert found is machine.peaks(1)
    assert json.loads(json.dumps(found.as_dict()))["threads"] == 1


def test_copying_is_really_done_by_several_threads():
    assert machine._copying(3, 1 << 20) > 0.1


def test_without_threadpoolctl_the_peak_is_really_fastconv_s(monkeypatch):
    monkeypatch.setattr(timing, "limits_blas", lambda: False)
    assert list(machine._arithmetic(1, np.dtype("float32"))) == ["fastconv pointwise"]


def test_share_of_peak():
    peaks = machine.Peaks(**PEAKS)
    [conv, _] = run.select(["convolution: resnet 64-64 @56"], ["forward"])
    assert run.share_of_peak(conv, conv.flops / 50e9, peaks) == pytest.approx(0.5)
    [small] = run.select(["pooling: lenet pool 2"], ["avg"])
    assert 1 << 20 < small.bytes < 1 << 25
    assert run.share_of_peak(small, small.bytes / 30e9, peaks) == pytest.approx(0.5)
    [step, _] = run.select(["training step"])
    assert run.share_of_peak(step, 1.0, peaks) is None


# --- what is measured ----------------------------------------------------------------------------


def test_layers_are_found_by_part_of_their_name():
    assert {p.layer for p in run.select(["ONE image: *conv"])} == {"LeNet conv 1", "LeNet conv 2"}
    assert {p.op for p in run.select(None, ["*gradient"])} == {
        "input gradient", "weight gradient", "max gradient", "avg gradient",
    }  # fmt: skip
    everything = [p for maker in run.MAKERS for p in getattr(contenders, maker)()]
    assert len(run.select(["ALL"])) == len(everything)
    core = run.select()
    assert all(p.core for p in core) and 0 < len(core) < len(everything)
    assert {p.family for p in core} == {p.family for p in everything}
    assert len(run.select(["core", "all"])) == len(everything)


def test_peers_are_chosen_by_name_or_module(monkeypatch):
    monkeypatch.setattr(contenders, "PEERS", {"one": ("First", "how 1"), "two": ("Second", "how")})
    monkeypatch.setattr(contenders, "present", lambda: {"First": "1.0"})
    assert run.select_peers() == {"First"}
    assert run.select_peers(["FIRST"]) == run.select_peers(["one"]) == {"First"}
    assert run.select_peers(["None"]) == set()
    with pytest.raises(ValueError, match=r"Second is not installed \(how\)"):
        run.select_peers(["two"])
    with pytest.raises(ValueError, match="some of First, Second; got 'three'"):
        run.select_peers(["three"])


def test_contenders_of_the_peers_asked_for(monkeypatch):
    monkeypatch.setattr(contenders, "PEERS", {"a": ("Alpha", ""), "b": ("Beta", "")})

    class Problem:
        def makers(self):
            return dict.fromkeys(["fastconv direct", "Alpha NCHW", "Beta", "NumPy matmul"])

    assert list(run.chosen_contenders(Problem(), {"Alpha"}, False)) == [
        "fastconv direct",
        "Alpha NCHW",
    ]
    assert list(run.chosen_contenders(Problem(), set(), True)) == [
        "fastconv direct",
        "NumPy matmul",
    ]


# --- the command ---------------------------------------------------------------------------------

QUICK = ["bench", "--layers", "one image: lenet pool", "--peers", "none", "--rounds", "2"]


def test_bench_prints_a_table(capsys):
    before = fc.get_num_threads()
    assert main(QUICK) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert "layer, operation" in lines[0] and "ratio" in lines[0]
    assert lines[1].startswith("LeNet pool 1, max") and "none measured" in lines[1]
    assert "1 thread for everybody" in said.out and "fresh" in said.out
    assert "100 GFLOP/s (NumPy matmul)" in said.out
    assert "[2/2] One image: LeNet pool 1, avg" in said.err
    assert fc.get_num_threads() == before


def test_bench_prints_json(capsys):
    assert main([*QUICK, "--threads", "2", "--allocation", "out", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"]["threads"] == 2 and found["peaks"]["gflops"] == 100
    assert found["command"].startswith("fastconv bench --layers 'one image: lenet pool'")
    names = [(r["op"], r["contender"]) for r in found["rows"]]
    assert names == [(op, f"fastconv{out}") for op in ("max", "avg") for out in ("", " out=")]
    own = found["rows"][0]
    assert own["threads"] == 2 and own["isa"] and own["seconds"] > 0 and own["rounds"] == 2
    assert own["peak_share"] > 0 and own["intensity"] > 0 and own["gbytes"] > 0
    assert set(found["left_out"]) == set(contenders.present())


def test_bench_with_baselines(capsys):
    assert main([*QUICK, "--ops", "avg", "--baselines", "--json"]) == 0
    found = {r["contender"] for r in json.loads(capsys.readouterr().out)["rows"]}
    assert found == {"fastconv", "fastconv out=", "NumPy", "Python loops"}


def test_bench_writes_json_beside_the_table(tmp_path, capsys):
    path = tmp_path / "run.json"
    assert main([*QUICK, "--json", str(path)]) == 0
    assert "layer, operation" in capsys.readouterr().out
    saved = table.read(path)
    assert len(saved["rows"]) == 4
    assert str(tmp_path) not in saved["command"] and "run.json" in saved["command"]
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_every_missing_peer_is_named(monkeypatch, capsys):
    peers = {"no_such_a": ("Alpha", "pip install a"), "no_such_b": ("Beta", "pip install b")}
    monkeypatch.setattr(contenders, "PEERS", peers)
    assert main([*QUICK[:3], "--rounds", "1"]) == 0
    said = capsys.readouterr().err
    assert "missing peer: Alpha (pip install a)" in said
    assert "missing peer: Beta (pip install b)" in said


def test_bench_without_threadpoolctl(monkeypatch, capsys):
    monkeypatch.setattr(timing, "limits_blas", lambda: False)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert main(QUICK) == 0
    assert "pip install threadpoolctl" in capsys.readouterr().err


def test_a_contender_that_is_wrong_fails_the_run(monkeypatch, capsys):
    def verify(contender):
        if contender.name == "fastconv out=":
            raise timing.Wrong(f"{contender.name}: result 0 is off by 1, allowed 0")

    monkeypatch.setattr(timing, "verify", verify)
    assert main([*QUICK, "--json"]) == 1
    said = capsys.readouterr()
    assert "failed: One image: LeNet pool 1, max: fastconv out=: result 0 is off" in said.err
    assert {r["contender"] for r in json.loads(said.out)["rows"]} == {"fastconv"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layers", "nonesuch"], "'nonesuch' fits none of"),
        (["--ops", "nonesuch"], "'nonesuch' is none of"),
        (["--layers", "VGG", "--ops", "inference"], "no layer fits VGG"),
        (["--peers", "nonesuch"], "nonesuch"),
        (["--threads", "0"], "at least 1"),
        (["--rounds", "x"], "--rounds"),
        (["--allocation", "other"], "other"),
        (["--json", "nowhere/run.json"], "the folder of nowhere"),
        (["--cold-start", "--layers", "VGG"], "--layers: --cold-start"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_calls(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["bench", *arguments])
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr()
    assert status == 2 and not said.out
    assert words in said.err and said.err.count("\n") == 1


# --- pictures ------------------------------------------------------------------------------------


def test_bench_draws(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "pictures"
    assert main([*QUICK, "--plot", str(folder)]) == 0
    assert sorted(p.name for p in folder.iterdir()) == ["bars.png", "roofline.png"]
    said = capsys.readouterr().out
    for picture in folder.iterdir():
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert f"picture: {picture}" in said


def test_roofline_has_a_point_for_each_layer():
    pytest.importorskip("matplotlib")
    from fastconv.bench import plots

    axes = plots.roofline(results()["rows"], PEAKS)
    points = {line.get_label(): line for line in axes.lines}
    assert points["fastconv"].get_xydata().tolist() == [[10, 50], [10, 50]]
    assert points["best peer"].get_xydata().tolist() == [[10, 50]]
    roof = points["copying in memory: 20 GB/s"].get_ydata()
    assert roof.max() == 100
    assert plots.roofline([], PEAKS).get_title() == "float32, 1 thread"


def test_bars_are_ratios_or_else_shares():
    pytest.importorskip("matplotlib")
    from fastconv.bench import plots

    axes = plots.bars(results()["rows"])
    assert [bar.get_width() for bar in axes.patches] == [1, -1]  # logarithms to base 2
    assert [text.get_text() for text in axes.texts] == ["2.00x", "0.50x"]
    assert len({bar.get_facecolor() for bar in axes.patches}) == 2
    alone = [row(ratio=None, best_peer=None)]
    assert [bar.get_width() for bar in plots.bars(alone).patches] == [50]
    assert plots.bars(alone, axes) is axes


def test_without_matplotlib_nothing_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert main([*QUICK, "--plot", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "fastconv[train]" in said.err and said.err.count("\n") == 1 and not said.out


# --- cold starts ---------------------------------------------------------------------------------


def test_cold_start(capsys):
    assert main(["bench", "--cold-start", "--peers", "none", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    [own] = found["cold_start"]["rows"]
    assert own["name"] == "fastconv" and own["version"] == fc.__version__
    assert 0.1 < own["megabytes"] < 30
    assert 0 < own["import_seconds"] < own["first_seconds"]
    assert found["rows"] == []


def test_cold_start_as_a_table(monkeypatch, capsys):
    monkeypatch.setattr(coldstart, "measure", lambda *_: COLD)
    assert main(["bench", "--cold-start", "--peers", "none"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["fastconv", "1", "1.62", "MB", "20.0", "ms", "30.0", "ms"]
    assert lines[2].split() == ["Peer", "2", "1,234", "MB", "1.50", "s", "1.60", "s"]


@pytest.mark.parametrize("module", [name for name in coldstart.CODE if name != "fastconv"])
def test_cold_start_of_a_peer(module):
    pytest.importorskip(module)
    started, imported, done = coldstart._start(module, None)
    assert 0 < started < imported < done
    assert coldstart.megabytes(module) > 1


def test_a_cold_start_that_computes_something_else_fails(monkeypatch, capsys):
    code = dict(coldstart.CODE, fastconv=("import fastconv", "y = 1 + fastconv.conv2d(x, w)"))
    monkeypatch.setattr(coldstart, "CODE", code)
    assert main(["bench", "--cold-start", "--peers", "none", "--rounds", "1"]) == 1
    assert "failed: cold start of fastconv" in capsys.readouterr().err


# --- the README's tables -------------------------------------------------------------------------


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("# Title\n\n<!-- bench:begin -->\nold\n<!-- bench:end -->\n\nThe rest.\n")
    return path


def test_a_folded_run_says_what_is_not_as_in_the_first():
    other = results()
    other["machine"] = other["machine"] | {"isa": "avx2"}
    elsewhere = results()
    elsewhere["machine"] = elsewhere["machine"] | {"cpu": "another"}
    text = table.tables([results(), results(), other, elsewhere])
    assert text.count("<summary>The same with 1 thread</summary>") == 1
    assert text.count("<summary>The same with 1 thread, avx2</summary>") == 1
    assert text.count("<summary>The same with 1 thread, another</summary>") == 1


@in_the_tree
def test_report_of_several_runs(page, tmp_path, capsys):
    saved = []
    for threads in (1, 2):
        saved.append(tmp_path / f"{threads}.json")
        saved[-1].write_text(table.dumped(results(threads)))
    cold = tmp_path / "cold.json"
    cold.write_text(table.dumped(results(rows=[], cold_start=COLD)))
    kept = tmp_path / "results.json"
    options = [f"--readme={page}", f"--results={kept}"]
    assert report.main([*map(str, saved), f"--cold-start={cold}", *options]) == 0
    text = page.read_text()
    assert text.startswith("# Title\n") and text.endswith("\nThe rest.\n")
    before, _, folded = text.partition("<details>\n<summary>The same with 2 threads</summary>\n\n")
    for part, threads in ((before, "1 thread "), (folded, "2 threads ")):
        assert "| A | 1.00 ms, **2.00x** |" in part
        assert "| B | 1.00 ms, _0.50x_ |" in part  # where we are behind it stands, too
        assert f"float32, {threads}for everybody" in part
        assert f"`fastconv bench --threads {threads[0]}` on Some CPU, 2 cores" in part
    assert "| Peer 2 | 1,234 MB | 1.50 s | 1.60 s |" in before
    assert "\n\n</details>\n<!-- bench:end -->" in folded
    assert report.main(["--check", *options]) == 0
    assert [r["machine"]["threads"] for r in table.read_all(kept)] == [1, 2]
    assert sum('"contender"' in line for line in kept.read_text().splitlines()) == 6
    page.write_text(text.replace("1,234 MB", "1 MB"))
    assert report.main(["--check", *options]) == 1
    assert report.main(options) == 0 and page.read_text() == text
    # the cold starts alone can be measured again
    cold.write_text(table.dumped(results(rows=[], cold_start=COLD | {"rounds": 7})))
    assert report.main([f"--cold-start={cold}", *options]) == 0
    assert "median of 7 processes" in page.read_text()
    assert table.read_all(kept)[0]["cold_start"]["rounds"] == 7


@in_the_tree
@pytest.mark.parametrize("content", ["[]", "[1]", "null", '{"rows": []}', "\xff", "3"])
def test_what_is_no_run_is_refused(content, page, tmp_path, capsys):
    bad = tmp_path / "bad.json"
    bad.write_bytes(content.encode("latin-1"))
    assert report.main([str(bad), f"--readme={page}", f"--results={tmp_path / 'r.json'}"]) == 2
    assert "bad.json: not" in capsys.readouterr().err and "old" in page.read_text()


@in_the_tree
def test_a_file_without_cold_starts_is_refused(page, tmp_path, capsys):
    saved = tmp_path / "run.json"
    saved.write_text(table.dumped(results()))
    assert report.main([str(saved), f"--cold-start={saved}", f"--readme={page}"]) == 2
    assert "run.json: not a run with cold starts" in capsys.readouterr().err


# --- two commits ---------------------------------------------------------------------------------

in_git = pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a git checkout"
)


@in_the_tree
@in_git
@pytest.mark.parametrize("ref", ["nonesuch", "--help-me", ""])
def test_compare_wants_two_commits(ref, capsys):
    with pytest.raises(compare.Failed, match="not a commit") as caught:
        compare.commit(ref)
    assert caught.value.status == 2
    if not ref.startswith("-"):
        assert compare.main(["HEAD", ref]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@in_the_tree
@in_git
def test_compare_wants_fastconv_bench_in_both(monkeypatch, capsys):
    monkeypatch.setattr(compare, "NEEDED", "no/such/file")
    assert compare.main(["HEAD", "HEAD"]) == 2
    assert capsys.readouterr().err == "compare: HEAD: this commit has no `fastconv bench` yet\n"


@in_the_tree
def test_compare_takes_turns(monkeypatch, capsys):
    turns = []
    key = "One image", "LeNet", "inference"

    def measured(tree, options):
        turns.append(tree)
        only = {("Pooling", "A", "max"): 1.0} if tree == "tree a" else {}
        return {key: 2.0 if tree == "tree a" else 1.0 + 0.1 * len(turns)} | only

    monkeypatch.setattr(compare, "commit", lambda ref: ref)
    monkeypatch.setattr(compare, "measured", measured)
    monkeypatch.setattr(
        compare, "built", lambda names: contextlib.nullcontext({n: f"tree {n}" for n in names})
    )
    assert compare.main(["a", "b", "--processes", "3", "--json"]) == 0
    assert turns == ["tree a", "tree b"] * 3
    said = capsys.readouterr()
    [only] = json.loads(said.out)["rows"]
    assert only["seconds"] == [2.0, 1.4] and only["ratio"] == pytest.approx(2 / 1.4)
    assert only["range"] == pytest.approx([2 / 1.6, 2 / 1.2])
    assert "only in a: Pooling: A, max" in said.err
    assert compare.main(["a", "b", "--processes", "1"]) == 0
    out = capsys.readouterr().out
    assert "One image: LeNet, inference" in out and "geometric mean" in out


@in_the_tree
def test_compare_measures_a_tree():
    """One process of one side, in this very tree."""
    found = compare.measured(ROOT, ["--layers", "one image: lenet pool", "--rounds=1"])
    assert [op for _, _, op in found] == ["max", "avg"] and min(found.values()) > 0
    with pytest.raises(compare.Failed, match="fits none of") as caught:
        compare.measured(ROOT, ["--layers", "nonesuch"])
    assert caught.value.status == 2


def test_bench_is_a_command_of_the_program():
    done = subprocess.run(
        [sys.executable, "-m", "fastconv", "bench", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for option in ("--layers", "--threads", "--peers", "--json", "--plot", "--cold-start"):
        assert option in done.stdout
