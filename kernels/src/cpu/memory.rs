//! Memory aligned to cache lines, and pointers that threads share.

/// A cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// A buffer of plain numbers that begins on a cache line.
pub struct Aligned<T> {
    lines: Vec<Line>,
    length: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: bytemuck::Pod> Aligned<T> {
    /// `length` zeros.
    pub fn zeros(length: usize) -> Self {
        let lines = (length * size_of::<T>()).div_ceil(64);
        Aligned {
            lines: vec![Line([0; 64]); lines],
            length,
            element: std::marker::PhantomData,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Makes room for at least `length` elements; the contents are lost if it grows.
    pub fn grow(&mut self, length: usize) {
        if length > self.length {
            *self = Aligned::zeros(length);
        }
    }

    /// First element.
    pub fn as_ptr(&self) -> *const T {
        self.lines.as_ptr().cast()
    }

    /// First element, to be written.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.lines.as_mut_ptr().cast()
    }

    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: `lines` holds at least `length` elements of a type for which any bytes are valid, aligned to 64.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.length) }
    }

    /// The elements, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.length) }
    }
}

/// A pointer that several threads write disjoint parts of.
#[derive(Clone, Copy)]
pub struct Shared<T>(pub *mut T);

// SAFETY: whoever hands it to threads makes them write disjoint elements, and waits for them before anyone reads.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer; a method so that closures capture the whole.
    pub fn get(self) -> *mut T {
        self.0
    }
}
