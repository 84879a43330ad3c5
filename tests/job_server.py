"""Jobs in processes of their own, forked by a test file that runs as a program.

Forked, so that torch is imported once; by a program, so that the tests' own threads are not there.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Answer = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Takes a job and returns how it ended, both as JSON values."""


@contextmanager
def job_server(file: str) -> Generator[Answer, None, None]:
    """Give what answers jobs as long as a program runs, a line of JSON each.

    Args:
        file: of the program.
    """
    here = str(Path(__file__).parent)  # where the program finds this module
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, file],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        jobs, answers = server.stdin, server.stdout

        def answer(job: Mapping[str, Any]) -> dict[str, Any]:
            jobs.write(json.dumps(job) + "\n")
            jobs.flush()
            return json.loads(answers.readline())

        yield answer
        jobs.close()
