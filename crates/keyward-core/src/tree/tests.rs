//! The tree against RFC 6962 and RFC 9162, word for word.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// RFC 6962, 2.1, word for word.
fn by_the_rfc(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        many => {
            let (left, right) = many.split_at(1 << (many.len() - 1).ilog2());
            hash_children(&by_the_rfc(left), &by_the_rfc(right))
        }
    }
}

fn leaf(number: u64) -> Hash {
    hash_leaf(&number.to_be_bytes())
}

fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(leaf).collect()
}

fn proof(spans: Vec<Span>, leaves: &[Hash]) -> Vec<Hash> {
    let node = |node: Node| {
        let (from, to) = (node.index << node.level, (node.index + 1) << node.level);
        Some(by_the_rfc(&leaves[from as usize..to as usize]))
    };
    spans.into_iter().map(|span| hash_of(span, node).unwrap()).collect()
}

#[test]
fn known_roots() {
    let hex = |hash: Hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // RFC 6962's own empty tree, and the seven-leaf tree of the certificate-transparency test vectors.
    assert_eq!(hex(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let inputs: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let hashes: Vec<Hash> = inputs.iter().map(|input| hash_leaf(input)).collect();
    assert_eq!(hex(by_the_rfc(&hashes[..1])), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    assert_eq!(hex(by_the_rfc(&hashes)), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
}

proptest! {
    #[test]
    fn tiles_hold_the_tree(batches in proptest::collection::vec(1u64..700, 1..6)) {
        let mut growth = Growth::default();
        let mut stored: HashMap<Tile, Vec<Hash>> = HashMap::new();
        for batch in batches {
            let from = growth.size();
            stored.extend(growth.extend((from..from + batch).map(leaf)));
            let all = leaves(growth.size());
            prop_assert_eq!(growth.root(), by_the_rfc(&all));
            prop_assert_eq!(&Growth::new(growth.size(), |tile| stored.get(&tile).cloned()), &Some(growth.clone()));
            for (tile, hashes) in &stored {
                prop_assert_eq!(hashes.len(), tile.width(growth.size()));
            }
            for node in cover(from / 2, growth.size()) {
                let (tile, first, count) = node.place();
                let (start, end) = (node.index << node.level, (node.index + 1) << node.level);
                prop_assert_eq!(root_of(&stored[&tile][first..first + count]), by_the_rfc(&all[start as usize..end as usize]));
            }
        }
    }

    #[test]
    fn proofs_prove_what_is_so_and_nothing_else(size in 1u64..200, at in 0u64..200, old in 0u64..200, spoiled in 0usize..8) {
        let all = leaves(size);
        let root = by_the_rfc(&all);
        let at = at % size;
        let mut included = proof(inclusion(at, size), &all);
        prop_assert_eq!(root_by_inclusion(at, size, leaf(at), &included), Some(root));
        prop_assert_ne!(root_by_inclusion(at, size, leaf(size), &included), Some(root));
        if let Some(hash) = included.get_mut(spoiled) {
            hash[0] ^= 1;
            prop_assert_ne!(root_by_inclusion(at, size, leaf(at), &included), Some(root));
        }
        let old = old % (size + 1);
        let before = by_the_rfc(&all[..old as usize]);
        let mut consistent = proof(consistency(old, size), &all);
        prop_assert!(is_consistent(old, size, &before, &root, &consistent));
        prop_assert!(old == 0 || old == size || !is_consistent(old, size, &root, &root, &consistent));
        if let Some(hash) = consistent.get_mut(spoiled) {
            hash[0] ^= 1;
            prop_assert!(!is_consistent(old, size, &before, &root, &consistent));
        }
    }

    #[test]
    fn whole_subtrees_make_the_same_root(size in 1u64..600, skip_from in 0u64..600, skip_to in 0u64..600) {
        let all = leaves(size);
        let (from, to) = (skip_from.min(skip_to).min(size), skip_from.max(skip_to).min(size));
        let mut edge = Edge::default();
        for number in 0..from {
            edge.push(0, leaf(number)).unwrap();
        }
        for node in cover(from, to) {
            let (start, end) = ((node.index << node.level) as usize, ((node.index + 1) << node.level) as usize);
            edge.push(node.level, by_the_rfc(&all[start..end])).unwrap();
        }
        for number in to..size {
            edge.push(0, leaf(number)).unwrap();
        }
        prop_assert_eq!((edge.size(), edge.root()), (size, by_the_rfc(&all)));
    }
}
