//! Numbers as text, without the formatting machinery of `core::fmt` (some kilobytes in a program of
//! a few).

/// The decimal digits of one number.
pub struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    /// The digits of `number`.
    pub fn new(mut number: u64) -> Decimal {
        let mut decimal = Decimal { digits: [b'0'; 20], start: 20 };
        for (index, digit) in decimal.digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            decimal.start = index;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        decimal
    }

    /// The digits as text.
    pub fn as_str(&self) -> &str {
        self.digits.get(self.start..).and_then(|digits| core::str::from_utf8(digits).ok()).unwrap_or("0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_what_the_standard_library_prints() {
        for number in [0, 1, 9, 10, 255, 1_000_000_007, u64::MAX - 1, u64::MAX] {
            assert_eq!(Decimal::new(number).as_str(), number.to_string());
        }
    }
}
