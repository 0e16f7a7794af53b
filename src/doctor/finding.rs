//! One finding, all of them, and where they are read.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// What a finding comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Worth knowing; a change is a choice, or not possible here.
    Note,
    /// Something to change.
    Change,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What.
    pub name: &'static str,
    /// What it comes to.
    pub verdict: Verdict,
    /// What it is now.
    pub now: String,
    /// The command, or the setting, that changes it.
    pub change: Option<String>,
    /// What a change is worth.
    pub worth: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn good(name: &'static str, now: impl Into<String>) -> Self {
        Self::of(name, Verdict::Good, now)
    }

    /// Worth knowing.
    pub fn note(name: &'static str, now: impl Into<String>) -> Self {
        Self::of(name, Verdict::Note, now)
    }

    /// To be changed.
    pub fn change(name: &'static str, now: impl Into<String>) -> Self {
        Self::of(name, Verdict::Change, now)
    }

    /// What the system does not say.
    pub fn unknown(name: &'static str, path: &str) -> Self {
        Self::note(
            name,
            format!("unknown: this system or container has no readable {path}"),
        )
    }

    fn of(name: &'static str, verdict: Verdict, now: impl Into<String>) -> Self {
        Self {
            name,
            verdict,
            now: now.into(),
            change: None,
            worth: None,
        }
    }

    /// With what changes it.
    pub fn by(mut self, change: impl Into<String>) -> Self {
        self.change = Some(change.into());
        self
    }

    /// With what a change is worth.
    pub fn worth(mut self, worth: impl Into<String>) -> Self {
        self.worth = Some(worth.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Good => "good",
            Verdict::Note => "note",
            Verdict::Change => "CHANGE",
        };
        write!(f, "{verdict:<7} {:<18} {}", self.name, self.now)?;
        for (word, text) in [("change", &self.change), ("worth", &self.worth)] {
            if let Some(text) = text {
                write!(f, "\n{:<27}{word}: {text}", "")?;
            }
        }
        Ok(())
    }
}

/// All findings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Examination {
    /// In the order in which they were made.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// Whether nothing has to be changed.
    pub fn is_good(&self) -> bool {
        self.to_change() == 0
    }

    /// How many things have to be changed.
    pub fn to_change(&self) -> usize {
        let changes = self
            .findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Change);
        changes.count()
    }
}

/// The files in which a system describes itself.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Those of this machine.
    pub fn of_this_machine() -> Self {
        Self::below(Path::new("/"))
    }

    /// Those of a machine whose root is this folder.
    pub fn below(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    /// Where a file is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Its text without the white space around it; none where it cannot be read.
    pub fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_string())
    }
}

/// A machine of the given files, for tests.
#[cfg(test)]
pub fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Files) {
    let folder = tempfile::tempdir().unwrap();
    let machine = Files::below(folder.path());
    for (path, text) in files {
        let path = machine.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    (folder, machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_to_change_is_enough() {
        let mut all = Examination {
            findings: vec![Finding::good("a", "b"), Finding::note("c", "d")],
        };
        assert!(all.is_good());
        all.findings
            .push(Finding::change("swap", "on").by("`swapoff -a`").worth("milliseconds"));
        assert!(!all.is_good());
        let text = all.findings[2].to_string();
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        assert_eq!(lines[1..], ["change: `swapoff -a`", "worth: milliseconds"]);
        assert!(lines[0].starts_with("CHANGE  swap"));
    }

    #[test]
    fn what_is_not_there_is_not_read() {
        let (_folder, machine) = machine(&[("/proc/sys/a", "12\n")]);
        assert_eq!(machine.read("/proc/sys/a").as_deref(), Some("12"));
        assert_eq!(machine.read("/proc/sys/b"), None);
    }
}
