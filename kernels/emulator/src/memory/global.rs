//! Memory of the device: allocations with gaps between them.

use super::region::Region;

/// Where the first allocation lies.
const FIRST: u64 = 0x7f00_0000_0000;

/// Allocations begin at multiples of this.
const ALIGN: u64 = 256;

/// At least so many bytes between two allocations belong to none.
const GAP: u64 = 4096;

/// One allocation.
#[derive(Debug)]
pub struct Allocation {
    /// Where it begins.
    pub base: u64,
    /// Its bytes, also after it was freed.
    pub bytes: usize,
    /// What it is, for messages.
    pub what: String,
    /// What it holds, unless it was freed.
    pub region: Option<Region>,
}

/// Memory of the device.
#[derive(Debug, Default)]
pub struct Global {
    /// By address. Freed ones stay, so that their use can be told.
    allocations: Vec<Allocation>,
    next: u64,
}

impl Global {
    /// A new allocation: its number and address.
    pub fn allocate(&mut self, bytes: usize, zeros: bool, what: &str) -> (usize, u64) {
        let base = (FIRST + self.next).next_multiple_of(ALIGN);
        self.next = base - FIRST + bytes as u64 + GAP;
        let region = Some(Region::new(bytes, zeros));
        self.allocations.push(Allocation {
            base,
            bytes,
            what: what.to_string(),
            region,
        });
        (self.allocations.len() - 1, base)
    }

    /// Gives an allocation back.
    pub fn free(&mut self, address: u64) -> Result<(), String> {
        let found = self
            .find(address)
            .filter(|found| self.allocations[*found].base == address);
        match found.map(|found| &mut self.allocations[found]) {
            Some(allocation) if allocation.region.is_some() => {
                allocation.region = None;
                Ok(())
            }
            Some(_) => Err(format!("0x{address:x} was freed already")),
            None => Err(format!("0x{address:x} was never allocated")),
        }
    }

    /// The allocation of a number.
    pub fn allocation(&mut self, number: usize) -> Option<&mut Allocation> {
        self.allocations.get_mut(number)
    }

    /// The number of the last allocation that begins at or before an address.
    pub fn find(&self, address: u64) -> Option<usize> {
        self.allocations.partition_point(|a| a.base <= address).checked_sub(1)
    }

    /// Whether `size` bytes at an address lie in one allocation, whose number is then `last`.
    #[inline(always)]
    pub fn within(&self, address: u64, size: usize, last: &mut usize) -> bool {
        let within = |a: &Allocation| {
            a.bytes >= size && address.wrapping_sub(a.base) <= (a.bytes - size) as u64 && a.region.is_some()
        };
        if self.allocations.get(*last).is_some_and(within) {
            return true;
        }
        match self.find(address) {
            Some(found) if within(&self.allocations[found]) => {
                *last = found;
                true
            }
            _ => false,
        }
    }

    /// Where `size` bytes at an address are: in which allocation, and where in it. `last` is a guess, and remembers.
    #[inline(always)]
    pub fn locate(&mut self, address: u64, size: usize, last: &mut usize) -> Result<(&mut Region, usize), String> {
        if !self.within(address, size, last) {
            return Err(self.outside(address, size));
        }
        let allocation = &mut self.allocations[*last];
        let offset = (address - allocation.base) as usize;
        allocation
            .region
            .as_mut()
            .map(|region| (region, offset))
            .ok_or_else(String::new)
    }

    /// What an address is near to, for messages.
    #[cold]
    fn outside(&self, address: u64, size: usize) -> String {
        let place = format!("{size} bytes at 0x{address:x}");
        let after = self.find(address);
        if let Some(a) = after.map(|found| &self.allocations[found]) {
            let distance = address - a.base;
            let known = format!("{} of {} bytes at 0x{:x}", a.what, a.bytes, a.base);
            if a.region.is_none() && distance < a.bytes as u64 {
                return format!("{place} lie in memory that was freed: {known}");
            }
            if distance < a.bytes as u64 + GAP {
                let beyond = (distance + size as u64).saturating_sub(a.bytes as u64);
                return format!("{place} lie outside of any allocation: {beyond} bytes beyond the end of {known}");
            }
        }
        let next = after.map_or(0, |found| found + 1);
        match self.allocations.get(next) {
            Some(a) if a.base - address <= GAP => {
                format!(
                    "{place} lie outside of any allocation: {} bytes before {} of {} bytes at 0x{:x}",
                    a.base - address,
                    a.what,
                    a.bytes,
                    a.base
                )
            }
            _ => format!("{place} lie outside of any allocation"),
        }
    }

    /// What lies at an address, for messages.
    pub fn describe(&self, address: u64) -> String {
        match self.find(address).map(|found| &self.allocations[found]) {
            Some(a) => format!(
                "byte {} of {} of {} bytes at 0x{:x}",
                address - a.base,
                a.what,
                a.bytes,
                a.base
            ),
            None => format!("0x{address:x}"),
        }
    }

    /// As if nobody had touched anything.
    pub fn forget_touches(&mut self) {
        for region in self.allocations.iter_mut().filter_map(|a| a.region.as_mut()) {
            region.forget_touches();
        }
    }
}
