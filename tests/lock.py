"""Checks with `dvc status` that dvc.lock matches dvc.yaml, params.yaml and the code; missing outputs do not count.

A fresh clone without a remote has no outputs, and `dvc status` calls them deleted: only a stage's command, parameters
and code are compared with those in dvc.lock.
"""

import json
import subprocess
import sys


def out_of_step(status: dict) -> list[str]:
    """One line for each stage whose parameters, code or command changed since dvc.lock was written."""
    lines = []
    for stage, entries in status.items():
        for entry in entries:
            if entry == "always changed":  # `source`, which always runs
                continue
            if isinstance(entry, str):  # "changed command"
                lines.append(f"{stage}: {entry}")
                continue
            for path, state in entry.get("changed deps", {}).items():
                if isinstance(state, dict):  # params.yaml: {section: state}
                    lines += [f"{stage}: {path}: {key} {value}" for key, value in state.items()]
                elif state != "deleted":
                    lines.append(f"{stage}: {path} {state}")
    return lines


def main() -> int:
    result = subprocess.run(["dvc", "status", "--json"], capture_output=True, text=True, check=True)
    lines = out_of_step(json.loads(result.stdout))
    for line in lines:
        print(line)
    print("dvc.lock is out of step: run `dvc repro` and commit dvc.lock" if lines else "dvc.lock is in step")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
