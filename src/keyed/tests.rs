use super::*;

#[test]
fn all_shards_together_hold_as_many_keys_as_may_be_held() {
    for max_keys in [
        1, 2, 255, 256, 511, 512, 777, 1000, 4095, 4097, 10_000, 1_000_003,
    ] {
        let shards = shards::<u32>(max_keys);
        let most: Vec<usize> = shards.iter().map(|shard| lock(shard).most).collect();
        assert_eq!(most.iter().sum::<usize>(), max_keys);
        assert!(
            most.iter().all(|one| one.abs_diff(most[0]) <= 1),
            "{most:?}"
        );
    }
}

#[test]
fn keys_are_spread_over_all_shards() {
    let shards = shards::<u32>(10_000);
    let mut keys = vec![0; shards.len()];
    for key in 0..10_000u64 {
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let shard = shard_of(&shards, hash);
        let nth = shards.iter().position(|other| std::ptr::eq(other, shard));
        keys[nth.unwrap()] += 1;
    }
    assert_eq!(keys.len(), MOST_SHARDS);
    assert!(
        keys.iter().all(|keys| (500..750).contains(keys)),
        "{keys:?}"
    );
}
