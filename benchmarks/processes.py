"""Run the scripts of this folder in processes of their own."""

import json
import os
import pathlib
import subprocess
import sys

import records
import shared_flags

_HERE = pathlib.Path(__file__).parent


def run_on_tensorflow(benchmark, measure, show):
    """The main function of a benchmark that needs only one process.

    Args:
        benchmark: name of the benchmark and of its script.
        measure: function without arguments that returns rows.
        show: function from rows to text.

    Returns:
        A tuple of the rows and the path of the results file, which is None
        for a quick run. Only None in the process that measures.
    """
    if shared_flags.HERE_NOW.value:
        print(json.dumps(measure()))
        return None
    records.commit()
    rows = in_process(
        f"{benchmark}.py",
        "--here",
        f"--quick={shared_flags.QUICK.value}",
        f"--dtypes={','.join(shared_flags.DTYPES.value or [])}",
        KERAS_BACKEND="tensorflow",
    )
    print(show(rows))
    return rows, records.save(benchmark, rows)


def in_process(script, *arguments, on_cpu=True, **environment):
    """Run a script of this folder in a new process.

    A new process is needed because the backend is chosen when Keras is
    imported, and because memory is measured per process. The script must
    print JSON as its last line.

    Args:
        script: name of the script.
        *arguments: its command-line arguments.
        on_cpu: whether to hide all accelerators.
        **environment: further environment variables.

    Returns:
        The parsed JSON.
    """
    process = subprocess.run(
        [sys.executable, str(_HERE / script), *arguments],
        env=_environment(environment, on_cpu),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])


# Plain PyTorch uses the CPU by default.
_CPU = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
    "KERAS_TORCH_DEVICE": "cpu",
}


def _environment(additions, on_cpu=True):
    paths = [str(_HERE.parent), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        **(_CPU if on_cpu else {}),
        **additions,
    }


class Worker:
    """A CPU process that works only during its turn.

    The script calls `answer` once when it is ready, and then after each turn.
    """

    def __init__(self, script, *arguments, **environment):
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE / script), *arguments],
            env=_environment(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready = self._read()

    def turn(self):
        """Run one turn and return the answer of the process."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def close(self):
        """End the process and return its last answer."""
        self._process.stdin.close()
        last = self._read()
        self._process.wait()
        return last

    def _read(self):
        for line in self._process.stdout:
            if line.startswith(_ANSWER):
                return json.loads(line.removeprefix(_ANSWER))
        raise RuntimeError(
            f"{self._process.args[1:]} ended before it answered."
        )


_ANSWER = "answer: "


def answer(value):
    """Called by a worker: answer, then wait for the next turn.

    Returns:
        Whether there is another turn.
    """
    print(_ANSWER + json.dumps(value), flush=True)
    return bool(sys.stdin.readline())
