//! The cursor: where decoded velocities take it.

use super::ReachPort;

/// Integrates velocities, trial by trial.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    trial: Option<usize>,
    position_m: [f64; 2],
}

impl Cursor {
    /// Moves on by one bin that ended at `end_ns`, with the velocity that the decoder in charge decoded for it, and puts the cursor
    /// into the port. Says whether it moved: not before a trial's first whole bin. A velocity that is no number is none.
    pub fn advance(&mut self, port: &ReachPort, end_ns: i64, bin_ns: i64, velocity_m_s: [f32; 2]) -> bool {
        let state = port.state();
        if state.started_ns.is_none_or(|started_ns| end_ns - bin_ns < started_ns) {
            return false;
        }
        if self.trial != Some(state.trial) {
            (self.trial, self.position_m) = (Some(state.trial), [0.0; 2]);
        }
        let (bin_s, most_m) = (bin_ns as f64 * 1e-9, port.task().workspace_m);
        for (position, velocity) in self.position_m.iter_mut().zip(velocity_m_s) {
            let moved = *position + f64::from(velocity) * bin_s;
            if moved.is_finite() {
                *position = moved.clamp(-most_m, most_m);
            }
        }
        port.put_cursor(state.trial, self.position_m);
        true
    }
}
