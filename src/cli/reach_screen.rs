//! The loop on the screen: on a terminal a picture of workspace, target and cursor, redrawn in place; elsewhere a line now and then.

use std::io::{IsTerminal, Write};

use super::reach_cursor::Control;
use crate::acquire::simulate::closed_loop::{ReachPort, TrialOutcome};

/// Characters across and down the workspace; a character is about twice as high as wide.
const ACROSS: usize = 41;
const DOWN: usize = 21;
/// Trials from one line to the next, where there is no terminal.
const SPARSE: usize = 8;

/// Writes to standard error.
pub(super) struct Screen {
    terminal: bool,
    quiet: bool,
    /// Lines of the picture that is on the screen.
    drawn: usize,
    /// Trials told of.
    told: usize,
}

impl Screen {
    /// An empty one. A quiet one is never shown.
    pub fn new(quiet: bool) -> Self {
        Screen {
            terminal: std::io::stderr().is_terminal(),
            quiet,
            drawn: 0,
            told: 0,
        }
    }

    /// Draws what there is to see.
    pub fn show(&mut self, port: &ReachPort, controls: &[Control]) {
        if self.quiet {
            return;
        }
        if self.terminal {
            let mut text = self.up();
            let lines = picture(port, controls);
            for line in &lines {
                text += &format!("\x1b[2K{line}\n");
            }
            self.drawn = lines.len();
            // Nobody to see the picture is no reason to stop the run.
            let _ = write!(std::io::stderr(), "{text}");
        } else if port.state().trial >= self.told + SPARSE {
            self.told = port.state().trial;
            let _ = writeln!(std::io::stderr(), "{}", score(port, controls));
        }
    }

    /// Takes the picture away.
    pub fn finish(&mut self) {
        if self.drawn > 0 {
            let _ = write!(std::io::stderr(), "{}\x1b[J", self.up());
            self.drawn = 0;
        }
    }

    /// To the picture's first line.
    fn up(&self) -> String {
        match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r"),
        }
    }
}

/// `trial 12 of 64 | network 3/3 | Kalman 2/3 | …`
fn score(port: &ReachPort, controls: &[Control]) -> String {
    let mut tally = vec![(0, 0); controls.len()];
    for (trial, planned) in port.plan().iter().enumerate() {
        let Some(outcome) = port.outcome(trial) else { break };
        let (reached, ended) = &mut tally[planned.decoder];
        *reached += usize::from(matches!(outcome, TrialOutcome::Success { .. }));
        *ended += 1;
    }
    let parts = controls.iter().zip(tally);
    let parts: String = parts
        .map(|(control, (reached, ended))| format!(" | {} {reached}/{ended}", control.name))
        .collect();
    format!("trial {} of {}{parts}", port.state().trial, port.plan().len())
}

/// Workspace, target (`.` within its radius) and cursor (`@`), and the score below.
fn picture(port: &ReachPort, controls: &[Control]) -> Vec<String> {
    let (task, state) = (port.task(), port.state());
    let planned = port.plan().get(state.trial).filter(|_| state.started_ns.is_some());
    let cursor_m = port.cursor_m(state.trial);
    let most_m = task.workspace_m;
    let step_m = [2.0 * most_m / (ACROSS - 1) as f64, 2.0 * most_m / (DOWN - 1) as f64];
    let cell = |m: f64, axis: usize| ((m + most_m) / step_m[axis]).round() as usize;
    let cursor = (cell(cursor_m[0], 0), cell(cursor_m[1], 1));
    let mark = |column: usize, row: usize| {
        let x = column as f64 * step_m[0] - most_m;
        let y = row as f64 * step_m[1] - most_m;
        let within = planned.is_some_and(|planned| {
            let target_m = task.target_m(planned.target);
            (x - target_m[0]).hypot(y - target_m[1]) <= task.radius_m
        });
        match (cursor == (column, row), within) {
            (true, _) => '@',
            (false, true) => '.',
            (false, false) => ' ',
        }
    };
    let edge = format!("+{}+", "-".repeat(ACROSS));
    let rows = (0..DOWN).rev().map(|row| {
        let cells: String = (0..ACROSS).map(|column| mark(column, row)).collect();
        format!("|{cells}|")
    });
    let charge = match planned {
        Some(planned) => format!("{} moves the cursor", controls[planned.decoder].name),
        None => "waiting for the next target".to_owned(),
    };
    std::iter::once(edge.clone())
        .chain(rows)
        .chain([edge, charge, score(port, controls)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acquire::simulate::closed_loop::{ClosedLoop, ReachTask};
    use crate::acquire::simulate::SimulationConfig;
    use crate::acquire::simulated::SpikeGenerator;

    #[test]
    fn the_cursor_and_the_target_are_where_they_are() {
        let task = ReachTask::default();
        let (mut closed_loop, port) = ClosedLoop::new(SimulationConfig::default(), 2, task, 1, 1).unwrap();
        let controls = [Control {
            name: "Kalman".into(),
            topic: None,
            row: 0,
        }];
        let waiting = picture(&port, &controls);
        assert_eq!(waiting[DOWN + 2], "waiting for the next target");
        assert!(!waiting[..DOWN + 2].iter().any(|line| line.contains('.')));
        closed_loop.advance_to(task.first_pause_ns + 10_000_000, &mut |_, _| {});
        let target_m = task.target_m(port.plan()[0].target);
        port.put_cursor(0, target_m);
        let shown = picture(&port, &controls);
        let (row, line) = shown.iter().enumerate().find(|(_, line)| line.contains('@')).unwrap();
        // The cursor is in the middle of the target, and each is on the target's side of the workspace.
        assert!(line.contains(".@."), "{shown:#?}");
        let up = (DOWN / 2 + 1) as f64 - row as f64;
        assert!((up / (DOWN / 2) as f64 - target_m[1] / task.workspace_m).abs() < 0.06);
        assert_eq!(shown[DOWN + 2], "Kalman moves the cursor");
        assert_eq!(shown[DOWN + 3], "trial 0 of 1 | Kalman 0/0");
    }
}
