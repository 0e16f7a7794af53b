//! Shared memory and disks.

use std::path::Path;

use super::finding::Finding;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// A bridge by shared memory takes 2 MiB; a page full of rigs less than this.
const SHARED: u64 = 64 * MIB;
/// An hour of spikes and predictions of a large rig.
const RECORDING: u64 = 10 * GIB;

/// Where programs on this machine push spikes.
pub fn shared_memory(folder: &Path) -> Finding {
    const NAME: &str = "shared memory";
    let probe = folder.join(format!("neurohorizon-doctor-{}", std::process::id()));
    let written = std::fs::write(&probe, [0; 4_096]);
    // What could not be written is not there.
    let _ = std::fs::remove_file(&probe);
    let place = folder.display();
    if let Err(error) = written {
        return Finding::change(NAME, format!("{place} cannot be written: {error}"))
            .by(format!(
                "`mount -t tmpfs tmpfs {place}`; in a container `--shm-size 256m`"
            ))
            .worth("spikes by shared memory, without a socket between");
    }
    match sys::free_bytes(folder) {
        None => Finding::note(NAME, format!("{place} can be written; its free space is unknown")),
        Some(free) if free < SHARED => Finding::change(NAME, format!("{} MiB free on {place}", free / MIB))
            .by(format!(
                "`mount -o remount,size=256m {place}`; in a container `--shm-size 256m`"
            ))
            .worth("a program that writes beyond it is ended by the system"),
        Some(free) => Finding::good(NAME, format!("{} MiB free on {place}", free / MIB)),
    }
}

/// Where recordings would go.
pub fn recordings(folder: &Path) -> Finding {
    const NAME: &str = "disk";
    let place = folder.display();
    match sys::free_bytes(folder) {
        None => Finding::change(NAME, format!("{place} is not there or does not say how much is free"))
            .by("`--recordings FOLDER` with one that exists"),
        Some(free) if free < RECORDING => {
            Finding::change(NAME, format!("{:.1} GiB free at {place}", free as f64 / GIB as f64))
                .by("free some, or `--recordings FOLDER` on another disk")
                .worth("a full disk ends a recording")
        }
        Some(free) => Finding::good(NAME, format!("{} GiB free at {place}", free / GIB)),
    }
}

#[cfg(unix)]
mod sys {
    use std::path::Path;

    pub fn free_bytes(folder: &Path) -> Option<u64> {
        let of = rustix::fs::statvfs(folder).ok()?;
        Some(of.f_bavail * of.f_frsize)
    }
}

#[cfg(not(unix))]
mod sys {
    use std::path::Path;

    pub fn free_bytes(_folder: &Path) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_to_be_changed() {
        let nowhere = Path::new("/nowhere/at/all");
        assert_eq!(shared_memory(nowhere).verdict, Verdict::Change);
        assert_eq!(recordings(nowhere).verdict, Verdict::Change);
    }

    #[test]
    fn nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        assert!(shared_memory(folder.path()).now.contains("MiB free"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
