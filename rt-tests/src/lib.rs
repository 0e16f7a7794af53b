//! Helpers shared by the tests of this crate.

use std::path::{Path, PathBuf};

/// The folder of golden files, checkpoints and recordings: `NEUROHORIZON_SHARED`, or `../shared` beside the workspace.
pub fn shared_folder() -> PathBuf {
    match std::env::var_os("NEUROHORIZON_SHARED") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
    }
}

/// A file of the shared folder, or `None`, with a printed line, where it is absent.
///
/// # Panics
/// Where it is absent and the environment variable CI is set.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = shared_folder().join(path);
    if path.exists() {
        return Some(path);
    }
    skip(&path.display().to_string());
    None
}

/// Says that a test is skipped because something is absent.
///
/// # Panics
/// Where the environment variable CI is set.
pub fn skip(what: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{what} is absent, and CI must have it"
    );
    println!("skipped: {what} is absent");
}

/// The program `neurohorizon`, built for these tests (cargo builds another package's program only on demand).
///
/// # Panics
/// Where it cannot be built.
pub fn program() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let built = std::process::Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--package",
            "neurohorizon",
            "--bin",
            "neurohorizon",
            "--manifest-path",
        ])
        .arg(manifest)
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "the program cannot be built"
    );
    // Tests run as <target>/<profile>/deps/<test>; the program lies two levels up.
    let test = std::env::current_exe().unwrap_or_default();
    let folder = test
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new("target/debug"));
    folder.join("neurohorizon")
}
