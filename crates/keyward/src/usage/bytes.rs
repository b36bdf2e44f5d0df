//! What blocks of counts and sums are made of beside numbers: texts, and ids in as few bytes as they need.

use uuid::Uuid;

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

pub(super) fn write_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

pub(super) fn read_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = u32::from_le_bytes(take(rest)?) as usize;
    let (text, left) = rest.split_at_checked(length)?;
    *rest = left;
    std::str::from_utf8(text).ok()
}

/// As what it does not have in common with another one at its beginning, which is the time at which both were made.
pub(super) fn write_id(bytes: &mut Vec<u8>, id: Uuid, like: Uuid) {
    let common = (id.as_u128() ^ like.as_u128()).leading_zeros() / 8;
    bytes.push(common as u8);
    bytes.extend_from_slice(&id.as_bytes()[common as usize..]);
}

pub(super) fn read_id(rest: &mut &[u8], like: Uuid) -> Option<Uuid> {
    let [common] = take(rest)?;
    let mut id = like.into_bytes();
    let own = id.get_mut(usize::from(common)..)?;
    let (taken, left) = rest.split_at_checked(own.len())?;
    *rest = left;
    own.copy_from_slice(taken);
    Some(Uuid::from_bytes(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(id: u128, like: u128, kept in 0u32..=128, text in ".*") {
            let like = Uuid::from_u128(like);
            // As much of the other one as is kept.
            let mask = u128::MAX.checked_shr(kept).unwrap_or(0);
            let id = Uuid::from_u128(id & mask | like.as_u128() & !mask);
            let mut bytes = Vec::new();
            write_id(&mut bytes, id, like);
            write_text(&mut bytes, &text);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(read_id(&mut rest, like), Some(id));
            prop_assert_eq!(read_text(&mut rest), Some(text.as_str()));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            let _ = (read_id(&mut rest, Uuid::nil()), read_text(&mut rest));
        }
    }
}
