//! Numbers in as few bytes as they need: unsigned LEB128 (DWARF 5, section 7.6), seven bits a byte, the lowest first.

/// Appends a number; most are small.
pub fn write(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number from the front; `None` where the bytes end too soon or tell one beyond 64 bits.
pub fn read(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, left) = rest.split_first()?;
        *rest = left;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back_and_no_more(number: u64, behind: Vec<u8>) {
            let mut bytes = Vec::new();
            write(&mut bytes, number);
            bytes.extend_from_slice(&behind);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(read(&mut rest), Some(number));
            prop_assert_eq!(rest, behind.as_slice());
        }
    }

    #[test]
    fn what_ends_too_soon_or_is_too_large_is_none() {
        let nines = [0xff; 9];
        let ended_by = |last: &[u8]| read(&mut [&nines[..], last].concat().as_slice());
        assert_eq!(ended_by(&[]), None);
        assert_eq!(ended_by(&[0x01]), Some(u64::MAX));
        assert_eq!(ended_by(&[0x02]), None);
        assert_eq!(ended_by(&[0x81, 0x00]), None);
    }
}
