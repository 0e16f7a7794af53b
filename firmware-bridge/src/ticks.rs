//! A 64-bit clock from a counter of 32 bits.

/// Extends a 32-bit counter that wraps around. It must be asked at least once each turn of the counter: every 2³² ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickExtender {
    last: u64,
}

impl TickExtender {
    /// The 64-bit time at which the counter stands at `counter`, no earlier than the time returned before.
    pub fn extend(&mut self, counter: u32) -> u64 {
        self.last += u64::from(counter.wrapping_sub(self.last as u32));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::TickExtender;

    #[test]
    fn turns_are_counted() {
        let mut ticks = TickExtender::default();
        let mut expected = 0u64;
        for step in [5, 0x8000_0000, 0xFFFF_FFFF, 1, 0, 0xFFFF_FFFE] {
            expected += step;
            assert_eq!(ticks.extend(expected as u32), expected);
        }
        assert!(expected > 2 << 32);
    }
}
