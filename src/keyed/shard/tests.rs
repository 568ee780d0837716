use std::{collections::HashMap, sync::Arc};

use super::*;
use crate::{
    admission::Rules,
    gate::{Gate, Holder, Name, Settings},
    strategy::Strategy,
};

const MOST: usize = 8;

fn gate() -> Holder {
    let settings = Settings {
        name: Name::given(String::new()),
        max_keys: 1,
        shadow: false,
        rules: Rules {
            strategy: Strategy::DropNewest,
            max_waiting: 0,
            max_wait: None,
        },
        remote: None,
    };
    Holder::new(Gate::new(1, settings, None))
}

/// Far fewer hashes than keys, so that each of them is that of several.
fn hash(key: u32) -> u64 {
    u64::from(key % 3) << 57
}

#[test]
fn each_key_finds_its_own_gate_whatever_has_come_and_gone() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut shard = Shard::new(MOST);
    let mut held = HashMap::new();
    let mut in_use: Vec<(u32, Holder)> = Vec::new();
    let (mut evictions, mut refusals) = (0, 0);
    for _ in 0..20_000 {
        let key = random.u32(..30);
        let mut evicted = None;
        let place = shard.place(hash(key), &key, &mut evicted);
        if let Some(gone) = evicted {
            evictions += 1;
            held.remove(&gone.key).expect("it was there");
            assert!(in_use.iter().all(|(key, _)| *key != gone.key));
        }
        match place {
            Place::Held(found) => {
                assert!(Arc::as_ptr(&found) == held[&key]);
                if random.bool() {
                    in_use.push((key, found));
                }
            }
            Place::Free => {
                assert!(!held.contains_key(&key));
                let gate = gate();
                let new = Held {
                    hash: hash(key),
                    key,
                    gate: gate.clone(),
                };
                let mut evicted = None;
                let (place, handed_back) = shard.insert(new, &mut evicted);
                assert!(matches!(place, Place::Free) && handed_back.is_none());
                assert!(evicted.is_none(), "there was a place");
                held.insert(key, Arc::as_ptr(&gate));
            }
            Place::None => {
                refusals += 1;
                assert!(!held.contains_key(&key));
                assert_eq!(held.len(), MOST);
                let is_in_use = |key| in_use.iter().any(|(other, _)| other == key);
                assert!(held.keys().all(is_in_use), "all are looked at");
            }
        }
        if random.u8(..200) == 0 {
            in_use.clear();
        }
        for (key, gate) in &held {
            let found = shard.find(hash(*key), key).unwrap();
            assert_eq!(Arc::as_ptr(found), *gate);
        }
        assert_eq!(shard.gates().len(), held.len());
    }
    assert!(evictions > 100 && refusals > 100, "{evictions}, {refusals}");
}
