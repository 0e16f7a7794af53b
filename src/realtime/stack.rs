//! A thread's stack, touched before it is needed.

use std::hint::black_box;

const PAGE: usize = 4_096;

/// Touches so many KiB of the calling thread's stack, downwards from here, so that later calls as deep find their pages in
/// place. The thread's stack must be that deep.
pub fn touch(kib: usize) {
    touch_pages(kib * 1_024 / PAGE);
}

/// One page a call: each frame holds a page, and is written before it goes deeper.
#[inline(never)]
fn touch_pages(left: usize) {
    let mut page = [0u8; PAGE];
    black_box(&mut page);
    if left > 1 {
        touch_pages(left - 1);
    }
    // The frame is still needed, so that the call above is a call and not a jump.
    black_box(&page);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::realtime::threads::page_faults;

    #[test]
    fn what_was_touched_faults_no_more() {
        let faults_after = |touched: usize| {
            let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
                touch(touched);
                let (_, before) = page_faults();
                touch(256);
                page_faults().1 - before
            });
            thread.unwrap().join().unwrap()
        };
        // Huge pages may make one fault of many, so that the untouched stack is only known to fault at all.
        assert!(faults_after(0) > 0);
        assert_eq!(faults_after(512), 0);
    }
}
