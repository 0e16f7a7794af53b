//! Helpers shared by the tests of this crate: where the data lies, and what happens when it does not.

pub mod pickler;

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("rt-tests lies in the workspace")
}

/// The golden cases that travel with the repository.
pub fn golden() -> PathBuf {
    root().join("rt-tests/golden")
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
    assert!(
        std::env::var_os("CI").is_none(),
        "{} is absent, and continuous integration must have it",
        path.display()
    );
    println!("skipped: {} is absent", path.display());
    None
}
