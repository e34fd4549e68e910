//! A list of bounded length that lives where it is declared. The monitor never allocates.

use core::fmt;
use core::ops::Deref;

/// Up to `N` items.
#[derive(Clone, Copy)]
pub struct List<T, const N: usize> {
    items: [T; N],
    length: usize,
}

/// The list has no room left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl<T: Copy + Default, const N: usize> List<T, N> {
    /// No items.
    pub fn new() -> List<T, N> {
        List { items: [T::default(); N], length: 0 }
    }

    /// Adds one item at the end.
    pub fn push(&mut self, item: T) -> Result<(), Full> {
        *self.items.get_mut(self.length).ok_or(Full)? = item;
        self.length += 1;
        Ok(())
    }

    /// As many of `items`, from the first, as there is room for.
    pub fn of(items: &[T]) -> List<T, N> {
        let mut list = List::new();
        for item in items {
            let _ = list.push(*item);
        }
        list
    }
}

impl<T: Copy + Default, const N: usize> Default for List<T, N> {
    fn default() -> List<T, N> {
        List::new()
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.items.get(..self.length).unwrap_or(&[])
    }
}

impl<T: PartialEq, const N: usize> PartialEq for List<T, N> {
    fn eq(&self, other: &List<T, N>) -> bool {
        **self == **other
    }
}

impl<T: Eq, const N: usize> Eq for List<T, N> {}

impl<T: fmt::Debug, const N: usize> fmt::Debug for List<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
