//! A value that is wiped from memory when dropped and never printed.

use std::fmt;

use zeroize::Zeroize;

/// Holds something secret. `Debug` prints `[redacted]`; reading it takes the explicit `expose`.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Every call is a place to look at in a review.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_prints_nothing_of_the_value() {
        assert_eq!(format!("{:?}", Secret::new("kw_live_abc".to_owned())), "[redacted]");
    }
}
