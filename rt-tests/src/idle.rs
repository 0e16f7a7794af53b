//! A device that computes nothing, so that what the host does for a device can be watched by itself.

use std::sync::Arc;

use kernels::cuda::driver::{Address, Capability, Driver, DriverError, Launch, Mapped};

use crate::breaking::Fault;

/// The kernel that ends a repeated sequence: its ticket and its answer are parameters.
const DELIVER: &str = "deliver";
/// Bytes from parameter to parameter of it.
const TICKET: usize = 0;
const ANSWER: usize = 32;

/// Launches and replays end at once and leave zeros, until it breaks.
pub struct IdleDevice {
    next: Address,
    mapped: Vec<(Address, Vec<u8>)>,
    /// Of the sequence being captured: where its ticket and its answer are.
    captured: Option<(Address, Address)>,
    /// Launches and replays that still end.
    launches: usize,
    replays: usize,
    fault: Fault,
    broken: bool,
}

impl IdleDevice {
    /// Never breaks.
    pub fn sound() -> Self {
        IdleDevice {
            next: 256,
            mapped: Vec::new(),
            captured: None,
            launches: usize::MAX,
            replays: usize::MAX,
            fault: Fault::Fails,
            broken: false,
        }
    }

    /// Breaks at launch number `launches`, counted from 0; what is only captured does not count.
    pub fn breaking_at_launch(launches: usize, fault: Fault) -> Self {
        IdleDevice {
            launches,
            fault,
            ..IdleDevice::sound()
        }
    }

    /// Breaks at replay number `replays`, counted from 0.
    pub fn breaking_at_replay(replays: usize, fault: Fault) -> Self {
        IdleDevice {
            replays,
            fault,
            ..IdleDevice::sound()
        }
    }

    fn take(&mut self, bytes: usize) -> Address {
        let address = self.next;
        self.next += bytes.next_multiple_of(256) as u64;
        address
    }

    fn word_at(&mut self, address: Address) -> &mut [u8] {
        let found = self.mapped.iter_mut().find(|(at, _)| *at == address);
        &mut found.expect("the address is one of mapped memory").1[..4]
    }
}

impl Driver for IdleDevice {
    type Function = Arc<str>;
    type Graph = (Address, Address);

    fn capability(&self) -> Capability {
        Capability {
            name: "idle".into(),
            compute: 80,
            multiprocessors: 16,
            shared_bytes: 99 * 1024,
        }
    }
    fn load(&mut self, _name: &str, _ptx: &str, entry: &str, _shared: u32) -> Result<Arc<str>, DriverError> {
        Ok(entry.into())
    }
    fn allocate(&mut self, bytes: usize) -> Result<Address, DriverError> {
        Ok(self.take(bytes))
    }
    fn free(&mut self, _address: Address) {}
    fn map(&mut self, bytes: usize) -> Result<Mapped, DriverError> {
        let address = self.take(bytes);
        self.mapped.push((address, vec![0; bytes]));
        Ok(Mapped {
            address,
            bytes,
            id: self.mapped.len() - 1,
        })
    }
    fn write_mapped(&mut self, mapped: Mapped, offset: usize, data: &[u8]) {
        self.mapped[mapped.id].1[offset..offset + data.len()].copy_from_slice(data);
    }
    fn read_mapped(&mut self, mapped: Mapped, offset: usize, data: &mut [u8]) {
        data.copy_from_slice(&self.mapped[mapped.id].1[offset..offset + data.len()]);
    }
    fn write(&mut self, _address: Address, _data: &[u8]) -> Result<(), DriverError> {
        Ok(())
    }
    fn read(&mut self, _address: Address, data: &mut [u8]) -> Result<(), DriverError> {
        data.fill(0);
        Ok(())
    }
    fn launch(&mut self, launch: &Launch<'_, Arc<str>>) -> Result<(), DriverError> {
        let Some(captured) = &mut self.captured else {
            self.broken |= self.launches == 0;
            self.launches = self.launches.saturating_sub(1);
            return Ok(());
        };
        if &**launch.function == DELIVER {
            let address = |at: usize| launch.parameters[at..at + 8].try_into().map(u64::from_le_bytes);
            *captured = (
                address(TICKET).expect("eight bytes"),
                address(ANSWER).expect("eight bytes"),
            );
        }
        Ok(())
    }
    fn begin_capture(&mut self) -> Result<(), DriverError> {
        self.captured = Some((0, 0));
        Ok(())
    }
    fn end_capture(&mut self) -> Result<(Address, Address), DriverError> {
        self.captured
            .take()
            .ok_or_else(|| DriverError("nothing is captured".into()))
    }
    fn replay(&mut self, &(ticket, answer): &(Address, Address)) -> Result<(), DriverError> {
        self.broken |= self.replays == 0;
        self.replays = self.replays.saturating_sub(1);
        if !self.broken {
            let mut word = [0; 4];
            word.copy_from_slice(self.word_at(ticket));
            self.word_at(answer).copy_from_slice(&word);
        }
        Ok(())
    }
    fn finished(&mut self) -> Result<bool, DriverError> {
        match (self.broken, self.fault) {
            (false, _) => Ok(true),
            (true, Fault::Hangs) => Ok(false),
            (true, Fault::Fails) => Err(DriverError("broken on purpose".into())),
        }
    }
    fn synchronise(&mut self) -> Result<(), DriverError> {
        Ok(())
    }
}
