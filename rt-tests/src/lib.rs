//! Helpers shared by the tests of this crate: where the data lies, and what happens when it does not.

pub mod breaking;
pub mod counting;
pub mod idle;
pub mod latency;
pub mod mean_rates;
pub mod pickler;
#[cfg(target_os = "linux")]
pub mod probe;
pub mod proxy;
pub mod recorded;
pub mod subscriber;
#[cfg(target_os = "linux")]
pub mod system_calls;
pub mod tiny;

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("rt-tests lies in the workspace")
}

/// The golden cases that travel with the repository (`$NEUROHORIZON_GOLDEN` where tests run without it).
pub fn golden() -> PathBuf {
    std::env::var_os("NEUROHORIZON_GOLDEN").map_or_else(|| root().join("rt-tests/golden"), PathBuf::from)
}

/// A file or folder of the shared data that lies beside the repository (`$NEUROHORIZON_SHARED`, else `../shared`).
///
/// `None`, with a printed line, where it is absent; a panic in continuous integration, which has it.
pub fn shared(relative: &str) -> Option<PathBuf> {
    let base = std::env::var_os("NEUROHORIZON_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = base.join(relative);
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
