//! What the scanner keeps of the values on a pickle's stack.

/// A value, as far as it can be part of a persistent id.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// Bytes, or a string of Python 2.
    Bytes(&'a [u8]),
    /// Text, in the encoding that it is written in.
    Text(&'a [u8]),
    /// A tuple, kept under this number.
    Tuple(usize),
    /// A list, kept under this number.
    List(usize),
    /// Anything else.
    Other,
}

/// The first items of a tuple or list: no persistent id has more than three.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Items<'a> {
    items: [Value<'a>; 3],
    len: usize,
}

impl<'a> Items<'a> {
    pub(crate) const EMPTY: Self = Self {
        items: [Value::Other; 3],
        len: 0,
    };

    pub(crate) fn of(values: &[Value<'a>]) -> Self {
        let mut items = Self::EMPTY;
        items.extend(values);
        items
    }

    pub(crate) fn extend(&mut self, values: &[Value<'a>]) {
        for value in values {
            if let Some(slot) = self.items.get_mut(self.len) {
                *slot = *value;
            }
            self.len += 1;
        }
    }

    /// The items; none where there are more than three.
    pub(crate) fn all(&self) -> Option<&[Value<'a>]> {
        self.items.get(..self.len)
    }
}
