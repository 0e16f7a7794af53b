#!/usr/bin/env python3
"""One table of what `gpu.sh run` left in a folder: gpu_report.py OUT VERSION, printed as Markdown.

Reads lab.json, bench.json, compare.json, status.tsv and device.txt; what is absent is said to be.
"""

import datetime
import json
import sys
from pathlib import Path

CASE = "small_250ms"
# (bins, what it is called, largest p99 that is asked for)
HORIZONS = [(12, "250 ms", 0.250), (50, "1 s", 1.0)]
# How many times faster than PyTorch it has to be.
FASTER = 5


def load(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def row(what, median="", p99="", remark=""):
    return f"| {what} | {median} | {p99} | {remark} |"


def timing(what, case, remark=""):
    return row(what, f"{1e3 * case['median_ms']:.0f} µs", f"{1e3 * case['p99_ms']:.0f} µs", remark)


def predictions(bench, compare):
    """Rows of one prediction, ours and PyTorch's, by horizon."""
    out = []
    for bins, name, most in HORIZONS:
        ours = next((case for case in (bench or {}).get("cases", []) if case["name"] == f"{CASE}_{bins}_bins"), None)
        if ours:
            held = "held" if ours["p99_ms"] <= most else "missed"
            remark = f"{1e3 * most:.0f} µs at p99: {held}; n = {ours['repetitions']}"
            out.append(timing(f"**{name} ({bins} bins), spikes to log rates**", ours, remark))
            for part in ("encode", "generate"):
                out.append(timing(f"{name}: {part} alone", ours[part]))
        else:
            out.append(row(f"**{name} ({bins} bins)**", remark="not measured"))
        for case in (compare or {}).get("cases", []):
            if case["bins"] != bins:
                continue
            what = f"{name}: PyTorch, {case['variant']}"
            if "error" in case:
                out.append(row(what, remark=case["error"].replace("|", "/")))
            else:
                off = case.get("difference")
                remark = f"n = {case['repetitions']}" + (f"; log rates within {off:.1g}" if off is not None else "")
                out.append(timing(what, case, remark))
        best = ((compare or {}).get("best") or {}).get(str(bins))
        if ours and best:
            median, p99 = (best[key] / ours[key] for key in ("median_ms", "p99_ms"))
            held = "held" if min(median, p99) >= FASTER else "missed"
            what = f"{name}: times faster than PyTorch, {best['variant']}"
            out.append(row(what, f"{median:.1f}", f"{p99:.1f}", f"{FASTER} times: {held}"))
    return out


def training(bench):
    """Rows of training steps, with dropout and without."""
    out = []
    for speed in (bench or {}).get("training", []):
        what = f"a training step{', nothing dropped' if not speed['dropout'] else ''}"
        values = (f"{speed[key]:.1f} ms" for key in ("median_ms", "slowest_ms"))
        out.append(row(what, *values, f"the slowest in place of p99; n = {speed['steps']}"))
    return out


def costs(lab):
    if not lab:
        return [row("costs of the device", remark="not measured")]
    out = []
    for figure in lab["figures"]:
        values = (f"{figure[key]:.2f} {figure['unit']}" for key in ("median", "p99"))
        out.append(row(figure["what"], *values, f"n = {figure['samples']}"))
    if lab.get("error"):
        out.append(row("costs of the device", remark=lab["error"]))
    return out


def parts(path):
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return [row("parts", remark="nothing was run")]
    out = []
    for name, said, seconds in (line.split("\t") for line in sorted(lines)):
        out.append(row(name, remark=f"{'passed' if said == 'ok' else '**' + said + '**'}, {seconds} s"))
    return out


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    out, version = Path(sys.argv[1]), sys.argv[2]
    bench, compare, lab = (load(out / f"{name}.json") for name in ("bench", "compare", "lab"))
    try:
        device = (out / "device.txt").read_text(encoding="utf-8").strip()
    except OSError:
        device = "unknown device"
    about = [device, datetime.date.today().isoformat(), f"version {version}"]
    if bench:
        about.append(bench["backend"])
    if compare:
        about.append(f"PyTorch {compare['torch']}, {compare['precision']}")
    print("; ".join(about) + "\n")
    print(row("", "median", "p99", ""))
    print("|---|---|---|---|")
    for line in predictions(bench, compare) + training(bench) + costs(lab) + parts(out / "status.tsv"):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
