"""How soon the command line answers, in CPU seconds; the last line printed is JSON.

    python benchmarks/startup.py

help_cpu_s: of `nearer --help`. command_help_cpu_s: of `nearer COMMAND --help`, for the slowest
command. import_cpu_s: of `import nearer`. Each is the median of five, user and system time of the
process together, so that what else the machine does matters little.
"""

import json
import resource
import statistics
import subprocess
import sys

from nearer.cli import COMMANDS

ROUNDS = 5


def main() -> None:
    nearer = [sys.executable, "-m", "nearer"]
    by_command = {
        command.name: median_cpu_s(*nearer, command.name, "--help") for command in COMMANDS
    }
    for name, seconds in by_command.items():
        print(f"nearer {name:<12} --help {seconds:.2f} s")
    print(
        json.dumps(
            {
                "help_cpu_s": median_cpu_s(*nearer, "--help"),
                "command_help_cpu_s": max(by_command.values()),
                "import_cpu_s": median_cpu_s(sys.executable, "-c", "import nearer"),
            }
        )
    )


def median_cpu_s(*command: str) -> float:
    """Return the CPU seconds of a command, the median of some rounds."""
    cpu_s(*command)  # writes byte code, and brings files into memory
    return round(statistics.median(cpu_s(*command) for _ in range(ROUNDS)), 3)


def cpu_s(*command: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
