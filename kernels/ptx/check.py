#!/usr/bin/env python3
"""Assembles every kernel for every device that it is for, and holds registers and shared memory to a committed table.

    python3 kernels/ptx/check.py              compare with resources.tsv; exit status 1 if anything differs
    python3 kernels/ptx/check.py --update     write resources.tsv anew
    python3 kernels/ptx/check.py --self-test  show that what must be refused is refused

Needs ptxas: on PATH, in $PTXAS, or from `pip install nvidia-cuda-nvcc`. No GPU.

A file's comments say what is not the default:
    // instances: NAME=64 OTHER=@file.txt; NAME=128 ...   values of its ${NAME}, one set a semicolon; @ is a file's text
    // targets of SET: sm_90 sm_100                       devices of the instances whose TARGET is SET
"""
import argparse
import concurrent.futures
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TABLE = HERE / "resources.tsv"
# Ampere, Jetson Orin, Hopper, Blackwell of data centres and of desks.
DEVICES = ["sm_80", "sm_87", "sm_90", "sm_100", "sm_120"]
# Text that may not stand in a kernel: what it does across blocks would depend on caches.
REFUSED = {
    r"\bvolatile\b": "say .relaxed, .acquire or .release with a scope",
    r"\bmembar\b": "say fence with a scope",
    r"\bbar\.sync\s+%": "barriers have literal numbers",
    r"\.func\b": "calls need a stack",
}


def find_ptxas():
    """The assembler, wherever it is."""
    named = os.environ.get("PTXAS") or shutil.which("ptxas")
    if named:
        return named
    package = importlib.util.find_spec("nvidia")
    for root in package.submodule_search_locations if package else []:
        found = sorted(pathlib.Path(root).glob("*/bin/ptxas"))
        if found:
            return str(found[-1])
    sys.exit("no ptxas: pip install nvidia-cuda-nvcc, or set PTXAS")


def instances(name, text, folder=HERE):
    """(what it is called, what it is for, text) of every instance of a file."""
    line = re.search(r"^// instances: (.*)$", text, re.M)
    sets = line.group(1).split(";") if line else [""]
    for one in sets:
        values = dict(pair.split("=", 1) for pair in one.split())
        out = text
        for key, value in values.items():
            if value.startswith("@"):
                value = (folder / value[1:]).read_text()
            out = out.replace("${%s}" % key, value)
        label = "" if not values else " " + ",".join(v.lstrip("@") for v in values.values())
        target = int(re.search(r"^\.target sm_(\d+)", out, re.M).group(1))
        devices = [d for d in DEVICES if int(d[3:]) >= target]
        yield name + label, devices, out


def lint(name, text):
    """What is wrong with a file's text."""
    problems = []
    if not text.startswith("//"):
        problems.append(f"{name}: must begin with a comment that says what it computes")
    for number, line in enumerate(text.splitlines(), 1):
        code = line.split("//")[0]
        for pattern, advice in REFUSED.items():
            if re.search(pattern, code):
                problems.append(f"{name}:{number}: {code.strip()}: {advice}")
    return problems


def assemble(job):
    """Rows of the table for one instance on one device, and what is wrong."""
    ptxas, name, device, text = job
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "kernel.ptx"
        path.write_text(text)
        command = [ptxas, "-v", "-Werror", f"-arch={device}", str(path), "-o", f"{folder}/kernel.cubin"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode != 0 or "warning" in said:
        return [], [f"{name} for {device}: {said.strip()}"]
    rows, problems, entry = [], [], None
    for line in said.splitlines():
        found = re.search(r"Compiling entry function '(\w+)'", line)
        entry = found.group(1) if found else entry
        stack = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)
        if stack and any(int(n) for n in stack.groups()):
            problems.append(f"{name} for {device}: {entry}: {line.strip()}")
        used = re.search(r"Used (\d+) registers", line)
        if used:
            shared = re.search(r"(\d+) bytes smem", line)
            rows.append((name, entry, device, used.group(1), shared.group(1) if shared else "0"))
    if not rows:
        problems.append(f"{name} for {device}: no kernel in it")
    return rows, problems


def check(files, folder=HERE):
    """The table of all files, and what is wrong with them."""
    ptxas = find_ptxas()
    jobs, problems = [], []
    for path in files:
        text = path.read_text()
        problems += lint(path.name, text)
        for name, devices, out in instances(path.name, text, folder):
            jobs += [(ptxas, name, device, out) for device in devices]
    rows = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for found, wrong in pool.map(assemble, jobs):
            rows += found
            problems += wrong
    return sorted(rows), problems


def self_test():
    """Plants what must be refused."""
    good = (HERE / "elementwise.ptx").read_text()
    # More values alive at once than registers allowed.
    many = "\n".join(f"    ld.global.f32 %f{i}, [%out+{4 * i}];" for i in range(64))
    total = "\n".join(f"    add.f32 %sum, %sum, %f{i};" for i in range(64))
    used = "\n".join(f"    mul.f32 %f{i}, %f{i}, %sum;\n    st.global.f32 [%out+{4 * i}], %f{i};" for i in range(64))
    spills = f"""// Spills.
.version 7.8
.target sm_80
.address_size 64
.visible .entry spills(.param .u64 out)
.maxnreg 24
{{
    .reg .b64 %out;
    .reg .f32 %f<64>, %sum;
    ld.param.u64 %out, [out];
{many}
    mov.f32 %sum, 0f00000000;
{total}
{used}
    ret;
}}
"""
    planted = {
        "syntax": (good.replace("ret;", "rett;", 1), "rett"),
        "spills": (spills, "spill"),
        "volatile": (good.replace("st.global.f32", "st.volatile.global.f32", 1), "volatile"),
        "header": (good[good.index(".version") :], "must begin with a comment"),
    }
    for what, (text, expected) in planted.items():
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / f"{what}.ptx"
            path.write_text(text)
            _, problems = check([path], pathlib.Path(folder))
        if not any(expected in problem for problem in problems):
            sys.exit(f"a planted fault was not refused: {what}: {problems}")
    rows, _ = check([HERE / "elementwise.ptx"])
    changed = [rows[0][:3] + ("99",) + rows[0][4:]] + rows[1:]
    if not differences(changed, rows):
        sys.exit("a changed number of registers was not seen")
    print(f"{len(planted) + 1} planted faults were refused")


def differences(table, rows):
    """Lines that differ, with the sign of a diff."""
    before, after = set(table), set(rows)
    lines = [("-",) + row for row in before - after] + [("+",) + row for row in after - before]
    return [" ".join(line) for line in sorted(lines, key=lambda line: line[1:] + line[:1])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    rows, problems = check(sorted(HERE.glob("*.ptx")))
    if problems:
        sys.exit("\n".join(problems))
    header = ("file", "kernel", "device", "registers", "static shared bytes")
    if arguments.update:
        TABLE.write_text("\n".join("\t".join(row) for row in [header] + rows) + "\n")
        print(f"{len(rows)} rows written to {TABLE.name}")
        return None
    table = [tuple(line.split("\t")) for line in TABLE.read_text().splitlines()[1:]]
    changed = differences(table, rows)
    if changed:
        sys.exit("registers or shared memory changed; if that is meant, run with --update:\n" + "\n".join(changed))
    print(f"{len(rows)} kernels assemble without warnings, spills or stacks, as {TABLE.name} says")
    return None


if __name__ == "__main__":
    main()
