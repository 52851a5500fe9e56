#!/usr/bin/env python3
"""workflows_test.py SOURCE: the workflows parse, call scripts that exist with options that these have, and may do no
more than they need. Exits with 77 where there is no YAML parser (Debian: python3-yaml)."""

import os
import re
import shlex
import subprocess
import sys

try:
    import yaml
except ImportError:
    print("no YAML parser here (python3-yaml)")
    sys.exit(77)

# What a container lacks before the checkout.
PACKAGES = re.compile(r"apt-get update && apt-get install -y --no-install-recommends( [a-z0-9-]+)+")
ACTIONS = {
    "actions/checkout": "v6",
    "actions/cache/restore": "v5",
    "actions/cache/save": "v5",
    "actions/upload-artifact": "v6",
    "github/codeql-action/upload-sarif": "v4",
}
READ = {"contents": "read"}
SARIF = {"contents": "read", "security-events": "write"}
WANTED = {"pull-request.yml", "nightly.yml", "zoo.yml", "conform.yml"}

errors = []
runs = 0


def check(ok, said):
    if not ok:
        errors.append(said)


def check_run(where, source, command):
    global runs
    runs += 1
    # What others may write (a title, an input) comes by the environment, never into the words of a shell.
    check("${{" not in command, f"{where}: an expression within `{command}`")
    if PACKAGES.fullmatch(command):
        return
    words = shlex.split(command)
    script = os.path.join(source, words[0])
    if not (words[0].startswith(".ci/") and os.access(script, os.X_OK)):
        errors.append(f"{where}: `{command}` calls no script of .ci/")
        return
    options = [w for w in words[1:] if w.startswith("--")]
    if not options:
        return
    said = subprocess.run([script, "--help"], capture_output=True, text=True, check=False).stdout
    for option in options:
        check(re.search(re.escape(option) + r"\b", said), f"{where}: {words[0]} has no {option}")


def check_job(where, source, job, triggers):
    check(isinstance(job.get("timeout-minutes"), int), f"{where}: no timeout-minutes")
    check(job.get("permissions", READ) in (READ, SARIF), f"{where}: permissions {job.get('permissions')}")
    runner = job["runs-on"]
    if "self-hosted" in runner:
        check("pull_request" not in triggers, f"{where}: a pull request could run on a machine of one's own")
        check("vt-x" in runner, f"{where}: any machine of one's own")
    else:
        check(runner == "ubuntu-24.04" and job.get("container") == "debian:12", f"{where}: runs on {runner}")
        check(" git " in job["steps"][0].get("run", "") + " ", f"{where}: no git before the checkout")
    uploads = False
    for number, step in enumerate(job["steps"]):
        here = f"{where}, step {number + 1}"
        check(("run" in step) != ("uses" in step), f"{here}: neither run nor uses, or both")
        if "run" in step:
            check_run(here, source, step["run"])
            continue
        action, _, version = step["uses"].partition("@")
        check(ACTIONS.get(action) == version, f"{here}: {step['uses']} is not one of {ACTIONS}")
        if action == "actions/checkout":
            check(step["with"].get("persist-credentials") is False, f"{here}: leaves its token in the checkout")
        if action == "actions/cache/restore":
            check("restore-keys" in step["with"], f"{here}: a cache that is never found")
        if action in ("actions/cache/save", "actions/upload-artifact", "github/codeql-action/upload-sarif"):
            check("always()" in str(step.get("if")), f"{here}: {action} is left out when the job is red")
        uploads |= action.endswith("upload-sarif")
    check(uploads == (job.get("permissions") == SARIF), f"{where}: may write SARIF and does not, or the other way")


def main(source):
    folder = os.path.join(source, ".github/workflows")
    check(set(os.listdir(folder)) == WANTED, f"workflows {sorted(os.listdir(folder))}, wanted {sorted(WANTED)}")
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            flow = yaml.safe_load(file)
        triggers = flow[True]  # YAML 1.1 reads the key `on` so
        check(flow.get("permissions") == READ, f"{name}: permissions {flow.get('permissions')}")
        check("group" in flow.get("concurrency", {}), f"{name}: no concurrency group")
        check("pull_request_target" not in triggers, f"{name}: runs strangers' code with this repository's rights")
        for job_name, job in flow["jobs"].items():
            check_job(f"{name}: {job_name}", source, job, triggers)
    check(runs >= 9, f"only {runs} commands were looked at")
    print("\n".join(errors) or f"{runs} commands, good")
    return 1 if errors else 0


sys.exit(main(sys.argv[1]))
