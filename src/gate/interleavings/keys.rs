//! Gates of keys under one ceiling.

use super::*;

/// There is one slot for both.
#[test]
fn two_keys_leave_nothing_behind_at_the_ceiling_that_one_of_them_found_full() {
    model(|| {
        let ceiling = gate(1, Strategy::DropNewest, 0);
        let inside = Arc::new(AtomicUsize::new(0));
        let of_key = |ceiling: &Holder| {
            let mut gate = gate(1, Strategy::DropNewest, 0);
            gate.get_mut().unwrap().above = Some(ceiling.clone());
            gate
        };
        let call = |gate: &Holder, inside: &AtomicUsize| {
            let claim = gate.claim(None).expect("nobody else has this key");
            if let Ok(begun) = claim.begin() {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                let mut permit = begun.permit();
                permit.sample(Outcome::Success);
                inside.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let (one, other) = (of_key(&ceiling), of_key(&ceiling));
        let beside = {
            let (one, inside) = (one.clone(), Arc::clone(&inside));
            thread::spawn(move || call(&one, &inside))
        };
        call(&other, &inside);
        beside.join().unwrap();
        for gate in [&one, &other, &ceiling] {
            is_empty(gate);
        }
        let ended = |gate: &Gate| {
            let counts = [&gate.completed, &gate.rejected];
            counts.map(|count| count.load(Ordering::Relaxed))
        };
        let [completed, rejected] = ended(&ceiling);
        assert_eq!(completed + rejected, 2);
        assert_eq!(
            completed,
            [&one, &other]
                .iter()
                .map(|gate| ended(gate)[0])
                .sum::<u64>()
        );
    });
}
