#!/usr/bin/env python3
"""Assembles every kernel of this folder with ptxas, for every device it is meant for, and compares what it needs.

Each *.ptx is instantiated as the program instantiates it: ${NAME} becomes a value. The values in use stand in a comment
of the file, and so do the devices, where they are not all:

    // instances: NAME=64 OTHER=1; NAME=128 OTHER=@file.txt      (@: the content of a file beside it)
    // targets: sm_90 sm_100 sm_120

A file without placeholders has no line of instances. An instance that sets TARGET is assembled for that device and later
ones.

Refused: errors and warnings of ptxas, spills, stack frames, registers or static shared memory that differ from
resources.tsv (--update rewrites it), files that do not begin with a comment that says what they are, and
  - ld.volatile, st.volatile: a flag needs an order and a scope (.relaxed, .acquire, .release), which volatile lacks;
  - membar: fence says what it orders;
  - atomics on integers without an order: blocks meet by them;
  - bar.sync of a barrier that is not a literal number: ptxas would then reserve all sixteen;
  - .func: calls need a stack.

Needs ptxas, from `pip install nvidia-cuda-nvcc`, the path, $PTXAS or --ptxas, and no GPU.

--self-test plants one fault of each kind and fails unless every one is refused.
"""

import argparse
import concurrent.futures
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGETS = ["sm_80", "sm_87", "sm_90", "sm_100", "sm_120"]
PACKAGE = "nvidia-cuda-nvcc"
TABLE = "resources.tsv"
COLUMNS = ["file", "kernel", "target", "instance", "registers", "shared_bytes"]

LINT = [
    (re.compile(r"\b(?:ld|st)\.volatile\b"), "volatile has no order: .relaxed, .acquire or .release with a scope"),
    (re.compile(r"\bmembar\b"), "membar: use fence, which says what it orders"),
    (
        re.compile(r"\b(?:atom|red)\.(?!async|relaxed|acquire|release|acq_rel)(?:[a-z_:]+\.)*[busx]\d+\b"),
        "an atomic on integers without .relaxed, .acquire, .release or .acq_rel",
    ),
    (
        re.compile(r"\b(?:bar|barrier)\.(?:cta\.)?(?:sync|arrive|red)\b[.\w]*\s+(?!\d+\s*[,;])"),
        "a barrier whose number is not a literal",
    ),
    (re.compile(r"(?<!\w)\.func\b"), "calls need a stack"),
]


class Fault(Exception):
    """What is wrong, for people."""


def find_ptxas(given):
    """The assembler: the one given, that of the PyPI package, or one on the path."""
    given = given or os.environ.get("PTXAS")
    if given:
        return given
    try:
        for file in importlib.metadata.files(PACKAGE) or []:
            if file.name == "ptxas":
                path = Path(file.locate())
                if path.exists():
                    return str(path)
    except importlib.metadata.PackageNotFoundError:
        pass
    found = shutil.which("ptxas")
    if found:
        return found
    raise Fault(f"no ptxas: pip install {PACKAGE}, or --ptxas PATH")


def version(ptxas):
    """As ptxas says it, without its build: registers differ from one version to the next."""
    said = subprocess.run([ptxas, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\bV(\d+\.\d+\.\d+)", said)
    return found.group(1) if found else said.strip()


def without_comments(text):
    """The text with comments blanked out, its lines where they were."""
    blank = lambda found: re.sub(r"[^\n]", " ", found.group(0))
    return re.sub(r"//[^\n]*|/\*.*?\*/", blank, text, flags=re.S)


def lint(path):
    """What the text alone shows."""
    text = path.read_text(encoding="utf-8")
    faults = []
    header = 0
    for line in text.splitlines():
        if not line.startswith("//"):
            break
        header += 1
    if path.suffix == ".ptx" and (header == 0 or len(text.splitlines()[0].strip("/ ")) < 10):
        faults.append(f"{path.name}:1: it must begin with a comment that says what the kernels compute")
    code = without_comments(text)
    for pattern, why in LINT:
        for found in pattern.finditer(code):
            line = code.count("\n", 0, found.start()) + 1
            faults.append(f"{path.name}:{line}: `{found.group(0).strip()}`: {why}")
    return faults


def note(text, what):
    """The line `// what: ...` of a file, or None."""
    found = re.search(rf"^//\s*{what}:\s*(.+?)\s*$", text, flags=re.M)
    return found.group(1) if found else None


def instances(path, text):
    """(what it is called, its text, its targets), one for each line of constants."""
    named = note(text, "targets")
    targets = named.split() if named else TARGETS
    unknown = [target for target in targets if target not in TARGETS]
    if unknown:
        raise Fault(f"{path.name}: `targets:` names {' '.join(unknown)}; known are {' '.join(TARGETS)}")
    needed = set(re.findall(r"\$\{(\w+)\}", without_comments(text)))
    line = note(text, "instances")
    if not needed:
        if line:
            raise Fault(f"{path.name}: `instances:` in a file without placeholders")
        return [("-", text, targets)]
    if not line:
        raise Fault(f"{path.name}: no `instances:` line, but placeholders {' '.join(sorted(needed))}")
    made = []
    for instance in filter(None, (part.strip() for part in line.split(";"))):
        constants = dict(pair.split("=", 1) for pair in instance.split())
        if set(constants) != needed:
            raise Fault(f"{path.name}: `{instance}` gives {sorted(constants)}, the text needs {sorted(needed)}")
        out = text
        for name, value in constants.items():
            if value.startswith("@"):
                value = (path.parent / value[1:]).read_text(encoding="utf-8")
            out = out.replace("${" + name + "}", value)
        least = constants.get("TARGET")
        if least is not None and least not in TARGETS:
            raise Fault(f"{path.name}: TARGET={least} is none of {' '.join(TARGETS)}")
        late = TARGETS[TARGETS.index(least) :] if least else TARGETS
        made.append((instance, out, [target for target in targets if target in late]))
    return made


def assemble(ptxas, file, instance, text, target):
    """Rows of the table, and faults, of one text on one device."""
    where = f"{file} ({target}{'' if instance == '-' else ', ' + instance})"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, file)
        # As it is loaded: at some places of a file ptxas refuses letters beyond ASCII even in a comment.
        source.write_text(without_comments(text), encoding="ascii")
        command = [ptxas, "-v", "--warning-as-error", "--warn-on-spills", "--warn-on-local-memory-usage"]
        command += [f"-arch={target}", str(source), "-o", os.devnull]
        ran = subprocess.run(command, capture_output=True, text=True)
        said = (ran.stdout + ran.stderr).replace(str(source), file)
    faults = [f"{where}: {line.strip()}" for line in said.splitlines() if re.search(r"\b(error|warning|fatal)\b", line, re.I)]
    if ran.returncode != 0 and not faults:
        faults = [f"{where}: ptxas failed with {ran.returncode}: {said.strip()}"]
    rows = []
    entries = re.split(r"Compiling entry function '([^']+)'[^\n]*", said)
    for kernel, about in zip(entries[1::2], entries[2::2]):
        frame = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", about)
        used = re.search(r"Used (\d+) registers", about)
        if not frame or not used:
            faults.append(f"{where}: {kernel}: ptxas does not say what it uses: {about.strip()}")
            continue
        if any(int(number) for number in frame.groups()):
            faults.append(f"{where}: {kernel}: {frame.group(0)}")
        shared = re.search(r"(\d+) bytes smem", about)
        rows.append((file, kernel, target, instance, int(used.group(1)), int(shared.group(1)) if shared else 0))
    if not rows and not faults:
        faults.append(f"{where}: no kernels in it")
    return rows, faults


def survey(folder, ptxas):
    """Rows and faults of everything in a folder."""
    faults, work = [], []
    files = sorted(folder.glob("*.ptx"))
    if not files:
        raise Fault(f"no *.ptx in {folder}")
    for path in [*files, *sorted(folder.glob("*.txt"))]:
        faults += lint(path)
    for path in files:
        try:
            for instance, text, targets in instances(path, path.read_text(encoding="utf-8")):
                work += [(ptxas, path.name, instance, text, target) for target in targets]
        except (Fault, OSError, ValueError) as fault:
            faults.append(str(fault))
    rows = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for more, wrong in pool.map(lambda job: assemble(*job), work):
            rows += more
            faults += wrong
    order = {target: number for number, target in enumerate(TARGETS)}
    rows.sort(key=lambda row: (row[0], row[1], row[3], order[row[2]]))
    return rows, faults


def write_table(path, rows, by):
    lines = [f"# ptxas {by}", "\t".join(COLUMNS)]
    lines += ["\t".join(str(value) for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_table(path):
    """(ptxas version, {where: (registers, shared)})."""
    if not path.exists():
        return None, {}
    by, rows = None, {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ptxas "):
            by = line[len("# ptxas ") :]
        elif line and not line.startswith("#") and line.split("\t") != COLUMNS:
            file, kernel, target, instance, registers, shared = line.split("\t")
            rows[file, kernel, target, instance] = (int(registers), int(shared))
    return by, rows


def compare(table, rows):
    """Lines that say what differs."""
    now = {row[:4]: row[4:] for row in rows}
    out = []
    for where in sorted(set(table) | set(now)):
        file, kernel, target, instance = where
        name = f"{file} {kernel} {target}" + ("" if instance == "-" else f" ({instance})")
        if where not in table:
            registers, shared = now[where]
            out.append(f"{name}: not in the table; {registers} registers, {shared} bytes of shared memory")
        elif where not in now:
            out.append(f"{name}: in the table, but nothing was assembled")
        else:
            for what, was, found in zip(["registers", "shared memory"], table[where], now[where]):
                if was != found:
                    out.append(f"{name}: {what} {was} -> {found}")
    return out


def check(folder, ptxas, update=False):
    """All faults of a folder; rewrites its table if asked and nothing else is wrong."""
    rows, faults = survey(folder, ptxas)
    by, path = version(ptxas), folder / TABLE
    if update and not faults:
        write_table(path, rows, by)
        return rows, faults
    made_by, table = read_table(path)
    differences = [f"{TABLE}: {line}" for line in compare(table, rows)]
    if differences and made_by != by:
        differences.append(f"{TABLE} was made by ptxas {made_by}, this is {by}: the same versions give the same numbers")
    elif differences:
        differences.append(f"{TABLE}: if this is meant, rewrite it with check.py --update")
    return rows, faults + differences


# ---- the check, checked ---------------------------------------------------------------------------------------------

HEADER = "// Adds a number to every element, for the check's own test.\n"
BODY = """.version 7.8
.target sm_80
.address_size 64
.visible .entry add(.param .u64 x)
.maxntid 128, 1, 1
{
    .reg .b64 %x, %at;
    .reg .b32 %i;
    .reg .f32 %v;
    ld.param.u64 %x, [x];
    mov.u32 %i, %tid.x;
    mul.wide.u32 %at, %i, 4;
    add.u64 %x, %x, %at;
    ld.global.f32 %v, [%x];
    // here
    add.f32 %v, %v, 0f3F800000;
    st.global.f32 [%x], %v;
    ret;
}
"""
GOOD = HEADER + BODY


def spilling():
    """More values alive at once than the registers that it may have."""
    lines = [f"    ld.global.f32 %w{i}, [%x+{4 * i}];" for i in range(64)]
    lines += ["    bar.sync 0;"]
    lines += [f"    fma.rn.f32 %v, %v, %w{i}, %w{63 - i};" for i in range(64)]
    text = GOOD.replace(".reg .f32 %v;", ".reg .f32 %v, %w<64>;").replace("    // here", "\n".join(lines))
    return text.replace(".maxntid 128, 1, 1", ".maxntid 128, 1, 1\n.maxnreg 24")


def stacked():
    """An array of each thread's own, indexed by what is known only when it runs."""
    lines = [
        "    .local .align 4 .b8 own[256];",
        "    .reg .b64 %own, %to;",
        "    mov.u64 %own, own;",
        "    and.b32 %i, %i, 31;",
        "    mul.wide.u32 %to, %i, 4;",
        "    add.u64 %to, %to, %own;",
        "    st.local.f32 [%to], %v;",
        "    st.local.f32 [%to+128], %v;",
        "    ld.global.u32 %i, [%x+512];",
        "    and.b32 %i, %i, 63;",
        "    mul.wide.u32 %to, %i, 4;",
        "    add.u64 %to, %to, %own;",
        "    ld.local.f32 %v, [%to];",
    ]
    return GOOD.replace("    // here", "\n".join(lines))


def self_test(ptxas):
    planted = {
        "a syntax error": (GOOD.replace("add.f32 %v, %v,", "add.f32 %v %v,"), r"syntax error"),
        "an unknown register": (GOOD.replace("add.f32 %v, %v,", "add.f32 %v, %w,"), r"%w"),
        "a spill": (spilling(), r"spill"),
        "a stack frame": (stacked(), r"stack frame"),
        "a warning": (GOOD.replace(".maxntid 128, 1, 1", ".maxntid 128, 1, 1\n.pragma \"no such thing\";"), r"[Pp]ragma"),
        "an instruction that an older device lacks": (
            GOOD.replace("    // here", "    barrier.cluster.arrive.aligned;\n    barrier.cluster.wait.aligned;"),
            r"sm_80",
        ),
        "no header": (BODY, r"must begin with a comment"),
        "a volatile load": (GOOD.replace("ld.global.f32", "ld.volatile.global.f32"), r":\d+: `ld\.volatile`"),
        "a volatile store": (GOOD.replace("st.global.f32", "st.volatile.global.f32"), r"st\.volatile"),
        "a membar": (GOOD.replace("// here", "membar.gl;"), r"membar"),
        "a counter without an order": (GOOD.replace("// here", "red.global.add.u32 [%x], %i;"), r"red\.global\.add\.u32"),
        "a sum of floats, which needs none": (GOOD.replace("// here", "red.global.add.f32 [%x], %v;"), None),
        "a barrier in a register": (GOOD.replace("// here", "bar.sync %i;"), r"not a literal"),
        "a function": (GOOD + ".func (.reg .b32 %r) twice(.reg .b32 %i) { add.u32 %r, %i, %i; ret; }\n", r"calls need"),
        "what is forbidden, in a comment": (GOOD.replace("// here", "// membar.gl; bar.sync %i; st.volatile"), None),
        "more registers": (
            GOOD.replace("    // here", "    ld.global.v4.f32 {%a, %b, %c, %d}, [%x+16];\n    bar.sync 0;").replace(
                "st.global.f32 [%x], %v;", "st.global.f32 [%x], %v;\n    st.global.v4.f32 [%x+32], {%d, %c, %b, %a};"
            ).replace(".reg .f32 %v;", ".reg .f32 %v, %a, %b, %c, %d;"),
            r"add sm_90: registers \d+ -> \d+",
        ),
        "more shared memory": (
            GOOD.replace("    // here", "    .shared .align 4 .b8 stage[512];\n    st.shared.f32 [stage], %v;"),
            r"shared memory 0 -> 512",
        ),
        "a placeholder without a value": (GOOD.replace("0f3F800000", "${ONE}"), r"no `instances:` line"),
        "an instance without a value": (
            GOOD.replace("0f3F800000", "${ONE}").replace(HEADER, HEADER + "// instances: TWO=1\n"),
            r"the text needs \['ONE'\]",
        ),
        "a device that nobody knows": (GOOD.replace(HEADER, HEADER + "// targets: sm_70\n"), r"sm_70"),
        "a kernel that is gone": (GOOD.replace(".entry add(", ".entry sum("), r"add sm_80: in the table"),
    }
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "add.ptx")
        path.write_text(GOOD, encoding="utf-8")
        _, faults = check(Path(folder), ptxas, update=True)
        faults += check(Path(folder), ptxas)[1]
        if faults:
            failed.append(f"a good kernel is refused: {faults}")
        for what, (text, expected) in planted.items():
            path.write_text(text, encoding="utf-8")
            _, faults = check(Path(folder), ptxas)
            said = "\n".join(faults)
            refused = [fault for fault in faults if not fault.startswith(TABLE)]
            if expected is None and refused:
                failed.append(f"{what} is refused: {refused}")
            elif expected is not None and not re.search(expected, said):
                failed.append(f"{what} is not refused as it should be: {said or 'nothing was said'}")
        # Constants, files as constants, and a target by instance.
        Path(folder, "one.txt").write_text("0f3F800000", encoding="utf-8")
        line = "// instances: TARGET=sm_80 ONE=0f40000000; TARGET=sm_90 ONE=@one.txt\n"
        text = GOOD.replace(HEADER, HEADER + line).replace("0f3F800000", "${ONE}").replace("sm_80\n.a", "${TARGET}\n.a")
        path.write_text(text, encoding="utf-8")
        rows, faults = check(Path(folder), ptxas, update=True)
        if faults or [row[2] for row in rows] != TARGETS + TARGETS[2:]:
            failed.append(f"instances: {[row[2] for row in rows]} {faults}")
    for line in failed:
        print(f"self-test: {line}", file=sys.stderr)
    print(f"self-test: {len(planted) + 2 - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help=f"rewrite {TABLE}")
    parser.add_argument("--self-test", action="store_true", help="plant faults and see that they are refused")
    parser.add_argument("--ptxas", help=f"the assembler [default: that of the package {PACKAGE}, or on the path]")
    args = parser.parse_args()
    try:
        ptxas = find_ptxas(args.ptxas)
        if args.self_test:
            return self_test(ptxas)
        rows, faults = check(HERE, ptxas, args.update)
    except Fault as fault:
        print(fault, file=sys.stderr)
        return 2
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        return 1
    kernels = len({row[:2] for row in rows})
    print(f"ptxas {version(ptxas)}: {kernels} kernels, {len(rows)} times assembled, for {' '.join(TARGETS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
