#!/usr/bin/env bash
# The CUDA backend on a real GPU: measured, tested, sanitised, and compared with PyTorch. See --help.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kernel_tests=(cuda_elementwise cuda_backward cuda_network)
network_tests=(cuda_conformance cuda_generation cuda_learning cuda_training)
tools=(memcheck racecheck synccheck initcheck)
case=small_250ms
# What `run` takes at most.
whole_s=530
most_mb=64

usage() {
    cat <<'END'
Measures and tests the CUDA backend on a GPU.

  gpu.sh build FOLDER    on a machine with cargo: collect what the other needs, less than 64 MB
  gpu.sh run FOLDER OUT  on a machine with a GPU, CUDA's compute-sanitizer and Python with PyTorch; needs no network
  gpu.sh --help          print this

`run` takes at most nine minutes. Timings come first, while nothing else runs: launch, graph, doorbell and barrier costs
(gpu_lab), `neurohorizon bench --device cuda`, PyTorch on the same model (gpu_compare.py). Then the tests that run on the
emulator elsewhere run on the device, and once more under compute-sanitizer: memcheck, racecheck, synccheck, initcheck.
A part that fails does not stop the others. OUT/report.md has the table, OUT/*.log what was said.

Exit status of `run`: 0 all passed, 1 something failed, 2 wrong usage, 3 no GPU here.
Exit status of `build`: 0 done, 1 something is missing or too large, 2 wrong usage.

  NEUROHORIZON_SHARED    folder with golden/small_250ms.* [build; default: ../shared beside the repository]
  PYTHON                 the Python that has PyTorch [run; default: python3]
END
}

die() {
    echo "gpu.sh: $1" >&2
    exit "${2:-1}"
}

# ---- build ----------------------------------------------------------------------------------------------------------

# Prints the path of every executable that cargo's messages name, with the target it belongs to.
executables() {
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line) if line.startswith("{") else {}
    if message.get("executable"):
        print(message["target"]["name"], message["executable"])
'
}

build() {
    local folder=$1 root shared name path
    root=$(cd "$here/.." && pwd)
    shared=${NEUROHORIZON_SHARED:-$root/../shared}
    [ -f "$shared/golden/$case.ckpt" ] || die "$shared/golden/$case.ckpt is absent; NEUROHORIZON_SHARED says where it is"
    mkdir -p "$folder/bin" "$folder/golden" "$folder/shared/golden"
    folder=$(cd "$folder" && pwd)

    local built wanted=()
    built=$(mktemp)
    (
        cd "$root"
        cargo test --release --no-run --message-format=json -p kernels "${kernel_tests[@]/#/--test=}"
        cargo test --release --no-run --message-format=json -p rt-tests "${network_tests[@]/#/--test=}"
        cargo build --release --message-format=json -p rt-tests --bin gpu_lab
        cargo build --release --message-format=json -p neurohorizon --bin neurohorizon
    ) | executables >"$built" || die "cargo could not build everything"
    wanted=("${kernel_tests[@]}" "${network_tests[@]}" gpu_lab neurohorizon)
    for name in "${wanted[@]}"; do
        path=$(awk -v name="$name" '$1 == name { $1 = ""; sub(/^ /, ""); path = $0 } END { print path }' "$built")
        [ -n "$path" ] || die "$name was not built"
        cp "$path" "$folder/bin/$name"
        strip "$folder/bin/$name"
    done
    rm "$built"

    cp "$root"/rt-tests/golden/* "$folder/golden/"
    cp "$shared/golden/$case".* "$folder/shared/golden/"
    cp "$here/gpu.sh" "$here/gpu_compare.py" "$here/gpu_report.py" "$folder/"
    git -C "$root" describe --always --dirty >"$folder/version" 2>/dev/null || echo unknown >"$folder/version"
    local mb
    mb=$(du -sm "$folder" | cut -f1)
    [ "$mb" -lt "$most_mb" ] || die "$folder has $mb MB; $most_mb are too many"
    echo "$folder: ${#wanted[@]} programs, $mb MB"
}

# ---- run ------------------------------------------------------------------------------------------------------------

# Seconds left, at least one.
left() {
    local rest=$((whole_s - SECONDS))
    echo $((rest > 1 ? rest : 1))
}

# part NAME LIMIT COMMAND...: runs a command, keeps what it says in NAME.log, and notes in status.tsv how it went.
part() {
    local name=$1 limit=$2 start=$SECONDS status=0 rest
    shift 2
    rest=$(left)
    limit=$((limit < rest ? limit : rest))
    timeout --kill-after=5 "$limit" "$@" >"$out/$name.log" 2>&1 || status=$?
    local said=ok
    if [ "$status" -ge 124 ] && [ $((SECONDS - start)) -ge "$limit" ]; then
        said="not done after $limit s"
    elif [ "$status" -ne 0 ]; then
        said="exit status $status"
    elif grep -q '^test result: ok. 0 passed' "$out/$name.log"; then
        said="no test was run"
    fi
    printf '%s\t%s\t%d\n' "$name" "$said" $((SECONDS - start)) >>"$out/status.tsv"
    echo "$name: $said ($((SECONDS - start)) s)"
}

# What a test program is asked to run under a sanitiser, which makes it many times slower: small cases.
small_cases() {
    case $1 in
        cuda_backward) echo --skip counts_are_drawn --skip sums_over_many_rows ;;
        cuda_conformance) echo small_cases_with_fp16_weights ;;
        cuda_generation) echo no_number_stays_none ;;
        cuda_learning) echo with_recent_history_and_dropout ;;
        cuda_training) echo steps_are_those_of_the_cpu ;;
    esac
}

sanitised() {
    local sanitizer=$1 tool=$2 test=$3
    shift 3
    part "$tool-$test" 200 "$sanitizer" --tool "$tool" --error-exitcode 9 "$folder/bin/$test" --test-threads=1 "$@"
}

run() {
    folder=$(cd "$1" && pwd) || die "$1 is no folder" 2
    nvidia-smi -L >/dev/null 2>&1 || die "no NVIDIA GPU here: nvidia-smi finds none" 3
    local python=${PYTHON:-python3} name tool sanitizer said status=0
    # Where there is a card but no libcuda, or too old a card, the lab says so.
    said=$("$folder/bin/gpu_lab" --repetitions 1 2>&1 >/dev/null) || status=$?
    [ "$status" -ne 3 ] || die "$said" 3
    mkdir -p "$2"
    out=$(cd "$2" && pwd)
    rm -f "$out"/*.log "$out"/*.json "$out/status.tsv" "$out/report.md"
    nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem --format=csv,noheader | head -n 1 >"$out/device.txt"

    part lab 60 "$folder/bin/gpu_lab" --json "$out/lab.json"
    # Its report is what it prints; what else it says is in the log.
    # shellcheck disable=SC2016 # the inner shell expands them
    part bench 60 bash -c '"$1" bench "$2" --device cuda --repetitions 1000 --training-steps 20 --events 1000000 --json >"$3"' \
        bench "$folder/bin/neurohorizon" "$folder/shared/golden/$case.ckpt" "$out/bench.json"
    part compare-check 60 "$python" "$folder/gpu_compare.py" "$folder/shared/golden" --check
    part compare 230 "$python" "$folder/gpu_compare.py" "$folder/shared/golden" --limit 75 --json "$out/compare.json"

    export NEUROHORIZON_TEST_DEVICE=cuda NEUROHORIZON_GOLDEN=$folder/golden NEUROHORIZON_SHARED=$folder/shared
    local tests=("${kernel_tests[@]}" "${network_tests[@]}")
    for name in "${tests[@]}"; do
        part "$name" 60 "$folder/bin/$name" --test-threads=1
    done

    sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
    # Side by side: nothing is timed any more.
    local cases
    for name in "${tests[@]}"; do
        read -ra cases <<<"$(small_cases "$name")"
        for tool in "${tools[@]}"; do
            sanitised "$sanitizer" "$tool" "$name" ${cases[@]+"${cases[@]}"} &
        done
        wait
    done

    "$python" "$folder/gpu_report.py" "$out" "$(cat "$folder/version")" >"$out/report.md" || die "no report"
    cat "$out/report.md"
    ! cut -f2 "$out/status.tsv" | grep -qvx ok || die "something failed: $out/status.tsv"
}

case ${1:-} in
    -h | --help) usage ;;
    build) [ $# -eq 2 ] || die "build FOLDER" 2; build "$2" ;;
    run) [ $# -eq 3 ] || die "run FOLDER OUT" 2; run "$2" "$3" ;;
    *) usage >&2; exit 2 ;;
esac
