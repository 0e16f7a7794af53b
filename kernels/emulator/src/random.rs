//! Orders that a seed determines.

/// A stream of numbers from a seed. The seed 0 is for the natural order of everything.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self
            .state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        let mixed = (self.state ^ self.state >> 29).wrapping_mul(0x9fb2_1c65_1e98_df25);
        mixed ^ mixed >> 32
    }

    /// A number from 1 to `most`, if the order is not the natural one.
    pub fn below(&mut self, most: u32) -> Option<u32> {
        (self.state != 0).then(|| 1 + (self.next() % u64::from(most)) as u32)
    }

    /// Brings things in another order, if it is not the natural one.
    pub fn permute<T>(&mut self, things: &mut [T]) {
        if self.state == 0 {
            return;
        }
        for i in (1..things.len()).rev() {
            things.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
    }
}
