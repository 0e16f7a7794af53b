//! `--device` on a machine without a GPU: asked for, it is one line and exit status 2; where the choice is free, the CPU
//! computes and one line says why.

use std::process::{Command, Output};

use rt_tests::{program, root, shared};
use serde_json::Value;

/// The program with these arguments, in the repository's root.
fn neurohorizon(arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Two seconds of a simulated population, as fast as it goes.
fn run(flags: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rig.toml");
    let text = "[simulate]\nfit_s = 5.0\nduration_s = 2.0\nspeed = \"max\"\n\
                [model]\ncheckpoint = \"configs/demo.safetensors\"\n\
                [publish]\nendpoint = \"tcp://127.0.0.1:*\"\nlatest_endpoint = \"\"\n";
    std::fs::write(&path, text).unwrap();
    let fixed = ["run", path.to_str().unwrap(), "--json", "--quiet"];
    neurohorizon(&[&fixed[..], flags].concat())
}

/// `eval` on the end of a recording; `None` where the data is absent.
fn eval(flags: &[&str]) -> Option<Output> {
    let (checkpoint, recording) = (shared("checkpoints/neuropixels.ckpt")?, shared("data/neuropixels.npz")?);
    let fixed = ["eval", checkpoint.to_str()?, recording.to_str()?];
    let rest = ["--from", "0.99", "--bootstrap", "0", "--json"];
    Some(neurohorizon(&[&fixed[..], &rest, flags].concat()))
}

/// Whether this machine has a GPU that the kernels run on; what is tested here is then not to be seen.
fn has_gpu() -> bool {
    let has = kernels::cuda::gpu::available().is_ok();
    if has {
        println!("skipped: this machine has a GPU");
    }
    has
}

fn check_told_once(output: &Output) {
    let text = errors(output);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("the CPU computes: "), "{text}");
}

#[test]
fn asking_for_a_gpu_that_is_not_there_is_one_line() {
    if has_gpu() {
        return;
    }
    let commands = [
        Some(run(&["--device", "cuda"])),
        eval(&["--device", "cuda"]),
        Some(neurohorizon(&["verify", "rt-tests/golden", "--device", "cuda"])),
        Some(neurohorizon(&["bench", "--device", "cuda"])),
        Some(neurohorizon(&["train", "configs/train-demo.toml", "--device", "cuda"])),
    ];
    for output in commands.iter().flatten() {
        let text = errors(output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert_eq!(text.trim_end().lines().count(), 1, "{text}");
        assert!(text.starts_with("error: the GPU cannot be used: "), "{text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn bf16_weights_and_a_gpu_are_refused() {
    let output = run(&["--device", "cuda", "--weights", "bf16"]);
    let text = errors(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text, "error: weights on a CUDA device are f16 or f32, not bf16\n");
}

#[test]
fn without_a_gpu_the_cpu_computes_and_one_line_says_why() {
    if has_gpu() {
        return;
    }
    for flags in [&[][..], &["--device", "auto"], &["--weights", "bf16"]] {
        let output = run(flags);
        check_told_once(&output);
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["device_failure"], Value::Null);
        assert_eq!(summary["bins"]["on_standby"], 0);
        assert!(summary["bins"]["full"].as_u64().unwrap() > 0);
    }
    let few = [
        "--repetitions",
        "1",
        "--training-steps",
        "0",
        "--events",
        "1000",
        "--json",
    ];
    check_told_once(&neurohorizon(&[&["bench"][..], &few].concat()));
    check_told_once(&neurohorizon(&["verify", "rt-tests/golden", "--json"]));
    if let Some(output) = eval(&[]) {
        check_told_once(&output);
    }
}

#[test]
fn who_asks_for_the_cpu_is_told_nothing() {
    let output = run(&["--device", "cpu"]);
    assert!(output.status.success());
    assert_eq!(errors(&output), "");
}
