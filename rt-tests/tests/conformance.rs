//! The network against the public reference implementation's own outputs, on every backend and storage of weights.

use std::path::Path;

use kernels::Precision;
use neurohorizon::evaluate::conformance::{cases, check, Tolerance};
use neurohorizon::model::{BackendKind, BuildOptions};

fn all_cases_pass(folder: &Path, backend: BackendKind, precision: Precision, threads: usize) {
    let options = BuildOptions {
        backend,
        precision,
        threads,
        ..BuildOptions::default()
    };
    let tolerance = Tolerance::of(backend, precision);
    let names = cases(folder).expect("the folder holds cases");
    let reports: Vec<_> = names
        .iter()
        .map(|name| check(folder, name, &options, tolerance))
        .collect();
    for report in &reports {
        println!("{report:?}");
    }
    assert!(
        reports.iter().all(|report| report.ok),
        "{backend:?} {precision:?}: a case is beyond {tolerance:?}"
    );
}

#[test]
fn small_cases_on_the_reference_backend() {
    all_cases_pass(&rt_tests::golden(), BackendKind::Reference, Precision::F32, 1);
    all_cases_pass(&rt_tests::golden(), BackendKind::Reference, Precision::F16, 1);
}

#[test]
fn small_cases_on_the_cpu_backend() {
    for threads in [1, 2, 3] {
        all_cases_pass(&rt_tests::golden(), BackendKind::Cpu, Precision::F32, threads);
        all_cases_pass(&rt_tests::golden(), BackendKind::Cpu, Precision::F16, threads);
    }
}

#[test]
fn all_cases_on_the_cpu_backend() {
    if let Some(folder) = rt_tests::shared("golden") {
        all_cases_pass(&folder, BackendKind::Cpu, Precision::F32, 2);
        all_cases_pass(&folder, BackendKind::Cpu, Precision::F16, 2);
    }
}

#[test]
fn all_cases_on_the_reference_backend() {
    if let Some(folder) = rt_tests::shared("golden") {
        all_cases_pass(&folder, BackendKind::Reference, Precision::F32, 1);
    }
}
