//! `run --realtime` as a user starts it: what the kernel says of its threads and memory, what a user without rights gets, and
//! `neurohorizon doctor`.
#![cfg(target_os = "linux")]

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use neurohorizon::realtime::{Role, SetUp, Settings};
use rt_tests::{program, root};
use serde_json::Value;

/// SCHED_FIFO in `/proc/PID/task/TID/stat`.
const FIFO: u64 = 1;
/// The user of nobody's files.
const NOBODY: u32 = 65_534;
/// Bins of 2 s; those of the first 480 ms have no whole history.
const BINS: u64 = 100;
const PUBLISHED: u64 = 76;

fn run(flags: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args([
            "run",
            "configs/simulate.toml",
            "--duration",
            "2",
            "--json",
            "--realtime",
        ])
        .args(["--endpoint", "tcp://127.0.0.1:*", "--latest-endpoint", ""])
        .args(flags)
        .current_dir(root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn summary(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// What the kernel says of a process: its threads' policy and priority by name, the KiB that are locked.
#[derive(Default, Debug)]
struct Seen {
    threads: Vec<(String, (u64, u64))>,
    locked_kib: u64,
    /// Whether huge pages may be made of its memory.
    huge_pages: bool,
}

impl Seen {
    /// Policy and priority of the thread of this name.
    fn thread(&self, name: &str) -> Option<(u64, u64)> {
        let found = self.threads.iter().find(|(known, _)| known == name);
        found.map(|(_, scheduled)| *scheduled)
    }

    /// Priorities of all real-time threads, ascending.
    fn priorities(&self) -> Vec<u64> {
        let fifo = self.threads.iter().filter(|(_, (policy, _))| *policy == FIFO);
        let mut priorities: Vec<u64> = fifo.map(|(_, (_, priority))| *priority).collect();
        priorities.sort_unstable();
        priorities
    }
}

/// A number of a process's `status`.
fn status(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = |text: &str| text.split_whitespace().next()?.parse().ok();
    line.and_then(number).unwrap_or(0)
}

fn look(process: u32) -> Seen {
    let mut seen = Seen {
        locked_kib: status(process, "VmLck"),
        huge_pages: status(process, "THP_enabled") == 1,
        ..Seen::default()
    };
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return seen;
    };
    for task in tasks.flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        // Fields are counted from the name's end: it may hold spaces. The third field of the file is the first here.
        let stat = read("stat");
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse().ok()).unwrap_or(0);
        let (priority, policy) = (field(40), field(41));
        seen.threads.push((read("comm").trim().to_string(), (policy, priority)));
    }
    seen
}

/// Runs to the end, and says what the kernel said while all of `threads` were there.
fn watched(mut command: Command, threads: &[&str]) -> (Output, Seen) {
    let mut child: Child = command.spawn().unwrap();
    let (begun, mut seen) = (Instant::now(), Seen::default());
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "the run does not end");
        let now = look(child.id());
        if threads.iter().all(|thread| now.thread(thread).is_some()) {
            seen = now;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    (child.wait_with_output().unwrap(), seen)
}

fn step<'a>(summary: &'a Value, what: &str) -> &'a Value {
    let steps = summary["realtime"]["steps"].as_array().unwrap();
    let found = steps
        .iter()
        .find(|step| step["what"].as_str().unwrap().starts_with(what));
    found.unwrap_or_else(|| panic!("no step {what} among {steps:?}"))
}

fn thread<'a>(summary: &'a Value, name: &str) -> &'a Value {
    let threads = summary["realtime"]["threads"].as_array().unwrap();
    threads.iter().find(|thread| thread["thread"] == name).unwrap()
}

fn assert_all_published(summary: &Value) {
    assert_eq!(
        (
            &summary["outcome"],
            &summary["bins"]["closed"],
            &summary["bins"]["published"]
        ),
        (&Value::from("finished"), &Value::from(BINS), &Value::from(PUBLISHED))
    );
    assert_eq!(summary["imbalances"], Value::Array(vec![]));
}

/// Whether this user may have what `--realtime` asks for; says so where not.
fn is_allowed(summary: &Value) -> bool {
    let refused = ["guard: SCHED_FIFO", "memory locked"]
        .into_iter()
        .find(|what| step(summary, what)["outcome"] == "refused");
    if let Some(what) = refused {
        println!("skipped: this user is refused {what}");
    }
    refused.is_none()
}

#[test]
fn an_idle_run_has_its_priorities_and_its_memory_and_leaves_the_cores_alone() {
    let (output, seen) = watched(run(&[]), &["source", "decode", "publish", "guard"]);
    let summary = summary(&output);
    assert_all_published(&summary);
    if !is_allowed(&summary) {
        return;
    }
    for (name, priority) in [("decode", 40), ("publish", 41), ("source", 42), ("guard", 43)] {
        assert_eq!(seen.thread(name), Some((FIFO, priority)), "{name} of {seen:?}");
    }
    // ZeroMQ's two, and the publish thread.
    assert_eq!(seen.priorities(), [40, 41, 41, 41, 42, 43], "{seen:?}");
    assert!(seen.locked_kib > 10_000 && !seen.huge_pages, "{seen:?}");
    for name in ["source", "decode", "publish"] {
        let used = thread(&summary, name);
        assert_eq!(used["major_faults"], 0, "{name}");
        let share = used["cpu_share"].as_f64().unwrap();
        println!(
            "{name}: {:.2} % of a core, {} minor faults",
            100.0 * share,
            used["minor_faults"]
        );
        assert!(share < 0.2, "{name} took {share} of a core with nothing to do");
    }
    let guard = &summary["realtime"]["guard"];
    println!("guard: {guard}");
    assert!(guard["fifo_share"].as_f64().unwrap() < 0.4 * guard["allowed_share"].as_f64().unwrap());
    assert_eq!(guard["set_back"], 0);
}

#[test]
fn threads_that_compute_a_prediction_have_the_decode_threads_priority() {
    let flags = [
        "--checkpoint",
        "configs/demo.safetensors",
        "--device",
        "cpu",
        "--threads",
        "2",
    ];
    let (output, seen) = watched(run(&flags), &["decode", "kernels-1", "guard"]);
    let summary = summary(&output);
    assert_all_published(&summary);
    if !is_allowed(&summary) {
        return;
    }
    assert_eq!(step(&summary, "compute: SCHED_FIFO 40")["outcome"], "done");
    assert_eq!(seen.thread("kernels-1"), Some((FIFO, 40)), "{seen:?}");
    assert_eq!(thread(&summary, "decode")["major_faults"], 0);
    println!(
        "decode: {}; close → publish {}",
        thread(&summary, "decode"),
        summary["latency"]["close_to_publish"]
    );
}

#[test]
fn a_user_without_rights_is_told_of_each_refusal_and_the_run_goes_on() {
    let mut command = run(&[]);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let (output, seen) = watched(command, &["source", "decode", "publish"]);
    let summary = summary(&output);
    assert_all_published(&summary);
    let errors = String::from_utf8_lossy(&output.stderr);
    let mut refused = 0;
    for (what, grant) in [
        ("guard: SCHED_FIFO 43", "ulimit -r 43"),
        ("memory locked", "ulimit -l unlimited"),
        ("cores wake within 10 µs", "/dev/cpu_dma_latency"),
    ] {
        let step = step(&summary, what);
        if step["outcome"] == "done" {
            println!("{what} is granted to this user");
            continue;
        }
        refused += 1;
        assert!(step["grant"].as_str().unwrap().contains(grant), "{step}");
        assert!(errors.contains(&format!("real time    {what}: refused")), "{errors}");
    }
    assert!(refused > 0, "a user without rights is granted everything");
    if step(&summary, "guard: SCHED_FIFO")["outcome"] == "refused" {
        assert!(seen.priorities().is_empty(), "{seen:?}");
        assert_eq!(thread(&summary, "decode")["priority"], Value::Null);
    }
}

#[test]
fn a_run_that_never_sleeps_gets_no_priority_and_one_that_asks_for_nothing_gets_no_report() {
    let fast = summary(&run(&["--speed", "max"]).output().unwrap());
    assert_all_published(&fast);
    let step = step(&fast, "SCHED_FIFO");
    assert!(step["because"].as_str().unwrap().contains("never sleep"), "{step}");
    let mut plain = Command::new(program());
    plain
        .args([
            "run",
            "configs/simulate.toml",
            "--duration",
            "2",
            "--speed",
            "max",
            "--json",
        ])
        .args(["--endpoint", "tcp://127.0.0.1:*", "--latest-endpoint", ""])
        .current_dir(root());
    assert_eq!(summary(&plain.output().unwrap())["realtime"], Value::Null);
}

#[test]
fn the_doctor_says_what_to_change_and_its_exit_status_whether() {
    let doctor = |flags: &[&str]| {
        let output = Command::new(program()).arg("doctor").args(flags).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = doctor(&["--json", "--recordings", "/nowhere/at/all"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["good"]), (1, &Value::Bool(false)), "{text}");
    let findings = report["findings"].as_array().unwrap();
    let find = |name: &str| findings.iter().find(|finding| finding["name"] == name);
    assert_eq!(find("disk").unwrap()["verdict"], "change");
    for name in [
        "RT throttling",
        "clock source",
        "timer lateness",
        "GPU",
        "ZeroMQ round trip",
        "shared memory",
    ] {
        assert!(find(name).is_some(), "{name} is not looked at: {text}");
    }
    for finding in findings.iter().filter(|finding| finding["verdict"] == "change") {
        assert!(finding["change"].is_string(), "{finding} does not say what to change");
    }
    let (code, text) = doctor(&[]);
    assert_eq!(
        code == 0,
        !text.lines().any(|line| line.starts_with("CHANGE")),
        "{text}"
    );
}

#[test]
fn what_belongs_to_the_process_ends_with_the_run() {
    let own = std::process::id();
    let before = look(own);
    let settings = Settings {
        lock_memory: true,
        no_huge_pages: true,
        ..Settings::default()
    };
    let set_up = SetUp::begin(&settings, true);
    let report = set_up.report().unwrap();
    let during = look(own);
    drop(set_up);
    let after = look(own);
    println!("{report}");
    for step in &report.steps {
        match step.what.as_str() {
            "memory locked" => assert_eq!(step.is_done(), during.locked_kib > 0),
            _ => assert_eq!(step.is_done(), !during.huge_pages),
        }
    }
    assert_eq!((after.locked_kib, after.huge_pages), (0, before.huge_pages));
}

/// The cores that the calling thread may run on, as the kernel lists them.
fn allowed_cores() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_string()
}

#[test]
fn a_thread_is_pinned_where_it_may_be_and_told_where_not() {
    let entered = |core: usize| {
        let set_up = SetUp::begin(&Settings::default(), true);
        let plan = set_up.thread(Role::Decode, Some(core));
        let allowed = std::thread::spawn(move || {
            let _entered = plan.enter();
            allowed_cores()
        });
        (allowed.join().unwrap(), set_up.report().unwrap())
    };
    let first = allowed_cores();
    let first = first.split(['-', ',']).next().unwrap();
    let (allowed, report) = entered(first.parse().unwrap());
    assert_eq!((&*allowed, report.refused().count()), (first, 0), "{report}");
    let (_, report) = entered(1_023);
    assert!(report.to_string().contains("decode: core 1023: refused"), "{report}");
}
