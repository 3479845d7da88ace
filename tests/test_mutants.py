"""The tool that breaks the code and checks that a test fails."""

import dataclasses

import pytest

import mutants

ONE = mutants.Mutant("one", "code.py", "a + b", "a - b", "tests/t.py -k 'x|y'")
TWO = mutants.Mutant("two", "code.py", "return", "yield", "tests/t.py", "jax")


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "code.py").write_text("def add(a, b):\n    return a + b\n")
    return tmp_path


@pytest.mark.parametrize(
    "code, verdict",
    [
        (1, "caught"),
        (0, "not caught"),
        (None, "its tests took more than 600 s"),
        (4, "its tests could not run (pytest ended with 4)"),
    ],
)
def test_a_break_is_caught_if_a_test_fails(
    checkout, monkeypatch, code, verdict
):
    seen = []

    def run_tests(root, backend, tests):
        seen.append((backend, tests, (root / "code.py").read_text()))
        return code

    monkeypatch.setattr(mutants, "run_tests", run_tests)
    before = (checkout / "code.py").read_text()
    assert mutants.judge(checkout, ONE) == verdict
    broken = before.replace("a + b", "a - b")
    assert seen == [("tensorflow", ONE.tests, broken)]
    assert (checkout / "code.py").read_text() == before


def test_the_code_is_restored_after_an_error(checkout, monkeypatch):
    def run_tests(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(mutants, "run_tests", run_tests)
    with pytest.raises(KeyboardInterrupt):
        mutants.judge(checkout, ONE)
    assert "a + b" in (checkout / "code.py").read_text()


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"find": "a"}, "its text occurs 3 times in code.py"),
        ({"file": "none.py"}, "its text occurs 0 times in none.py"),
        ({"replace": "a + b"}, "it changes nothing"),
    ],
)
def test_a_break_that_cannot_be_applied_is_not_caught(
    checkout, changes, problem
):
    mutant = dataclasses.replace(ONE, **changes)
    assert mutants.judge(checkout, mutant) == problem


def test_rows_of_other_breaks_are_kept_until_their_tests_change(tmp_path):
    path = tmp_path / "RESULT.md"
    assert mutants.known_results(path) == {}
    both = {"one": ("caught", 3.2), "two": ("not caught", 7.8)}
    page = mutants.report([ONE, TWO], both, {}, "0123")
    assert "Of 2 breaks, 1 were caught, 1 were not, and 0 were not" in page
    path.write_text(page)
    known = mutants.known_results(path)
    assert known["one"][:5] == [*ONE.cells, "caught", "3"]
    assert known["two"][2:4] == ["`tests/t.py` jax", "not caught"]
    assert known["two"][5].startswith("0123, ")
    page = mutants.report([ONE, TWO], {"two": ("caught", 5)}, known, "4567")
    assert "Of 2 breaks, 2 were caught, 0 were not, and 0 were not" in page
    path.write_text(page)
    known = mutants.known_results(path)
    assert [known[name][5][:4] for name in ("one", "two")] == ["0123", "4567"]
    others = dataclasses.replace(ONE, tests="tests/others.py")
    page = mutants.report([others, TWO], {}, known, "89ab")
    assert "1 were caught, 0 were not, and 1 were not run" in page
    assert "| one | code.py | `tests/others.py` | not run | - | - |" in page


def test_names_are_unique_and_entries_are_complete(tmp_path):
    entry = "[[mutant]]\nname = 'one'\nfile = 'f'\nfind = 'x'\nreplace = 'y'\n"
    (tmp_path / "a.toml").write_text(f"{entry}tests = 't'\n")
    (mutant,) = mutants.read(tmp_path)
    assert mutant == mutants.Mutant("one", "f", "x", "y", "t")
    (tmp_path / "b.toml").write_text(f"{entry}tests = 't'\n")
    with pytest.raises(SystemExit, match="b.toml: one occurs twice"):
        mutants.read(tmp_path)
    (tmp_path / "b.toml").write_text(entry)
    with pytest.raises(SystemExit, match="b.toml: .*'tests'"):
        mutants.read(tmp_path)


def test_all_breaks_can_be_applied():
    known = mutants.read(mutants.ROOT / mutants.MUTANTS)
    problems = {m.name: m.problem(mutants.ROOT) for m in known}
    assert len(known) >= 300
    assert {name for name, problem in problems.items() if problem} == set()
