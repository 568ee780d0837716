use super::*;

const SLICES: [u64; 2] = [10, 1000];

/// So much, and not the first that was spent.
fn grants(spent: [u64; 2]) -> [Grant; 2] {
    spent.map(|spent| Grant {
        spent,
        afresh: false,
    })
}

/// A lease of a slice of each, of which one request and its 100 tokens have been taken.
fn lease() -> (Lease, Taken) {
    let mut lease = Lease::default();
    let draw = lease.draw(&[1, 100], &SLICES);
    assert_eq!(
        (&draw.costs[..], &draw.wants[..]),
        (&[1, 100][..], &SLICES[..])
    );
    let (taken, begins) = lease.put(&draw, &grants(SLICES), 5);
    assert!(begins);
    (lease, taken)
}

#[test]
fn nothing_is_taken_before_there_is_a_lease() {
    assert_eq!(Lease::default().take(&[1]), None);
    assert_eq!(Lease::default().take(&[0]), None);
}

#[test]
fn all_is_taken_or_nothing() {
    let (mut lease, first) = lease();
    assert_eq!(lease.take(&[1, 901]), None);
    assert_eq!(lease.take(&[1, 900]), Some(first));
    assert_eq!(lease.take(&[1, 1]), None);
    assert_eq!(lease.take(&[8, 0]), Some(first));
    assert_eq!(lease.take(&[1, 0]), None);
}

#[test]
fn what_is_missing_is_drawn_and_the_slice_topped_up() {
    let (mut lease, first) = lease();
    let draw = lease.draw(&[1, 1200], &SLICES);
    assert_eq!(draw.costs, [0, 300]);
    assert_eq!(draw.wants, [2, 1000]);
    // What was set aside is nobody else's.
    assert_eq!(lease.take(&[1, 1]), None);
    let (taken, begins) = lease.put(&draw, &grants([2, 500]), 9);
    assert!(!begins);
    assert_eq!(taken, Taken { at: 9, ..first });
    assert_eq!(lease.close(None), Some((vec![10, 200], 9)));
}

#[test]
fn a_lease_never_holds_more_than_a_slice() {
    let (mut lease, _) = lease();
    for cost in 0..2000 {
        let draw = lease.draw(&[1, cost], &SLICES);
        lease.put(&draw, &grants([draw.wants[0], draw.wants[1]]), 9);
        assert!(lease.left[0] <= SLICES[0] && lease.left[1] <= SLICES[1]);
    }
}

#[test]
fn what_was_set_aside_in_vain_is_there_again() {
    let (mut lease, first) = lease();
    let draw = lease.draw(&[1, 1200], &SLICES);
    assert_eq!(lease.put_back(draw), None);
    assert_eq!(lease.take(&[9, 900]), Some(first));
}

#[test]
fn what_was_set_aside_from_a_lease_that_is_over_goes_to_the_store() {
    let (mut lease, _) = lease();
    let draw = lease.draw(&[1, 1200], &SLICES);
    lease.close(None);
    assert_eq!(lease.put_back(draw), Some((vec![1, 900], 5)));
    assert_eq!(lease.left, [0, 0]);

    let draw = lease.draw(&[0, 0], &SLICES);
    lease.put(&draw, &grants(SLICES), 20);
    let draw = lease.draw(&[1, 1200], &SLICES);
    lease.close(None);
    let another = lease.draw(&[0, 0], &SLICES);
    lease.put(&another, &grants(SLICES), 30);
    assert_eq!(lease.put_back(draw), Some((vec![1, 1000], 20)));
    assert_eq!(lease.left, SLICES);
}

#[test]
fn what_was_taken_in_several_draws_goes_back() {
    let (mut lease, _) = lease();
    lease.take(&[9, 9]).unwrap();
    let draw = lease.draw(&[1, 1], &SLICES);
    lease.put(&draw, &grants([10, 110]), 9);
    assert_eq!(lease.close(None), Some((vec![9, 1000], 9)));
}

#[test]
fn what_time_has_given_back_does_not_go_back_as_well() {
    let (mut lease, _) = lease();
    lease.take(&[9, 9]).unwrap();
    let draw = lease.draw(&[1, 1], &SLICES);
    let mut grants = grants([10, 110]);
    grants[1].afresh = true;
    lease.put(&draw, &grants, 9);
    assert_eq!(lease.close(None), Some((vec![9, 110], 9)));
}

#[test]
fn whether_something_was_spent_before_is_seen_by_how_long_it_takes_to_come_back() {
    let budget = Budget::per_second(10).burst(5);
    let standing = |spent, reset_after| Standing {
        spent,
        remaining: 0,
        wait: 0,
        reset_after,
    };
    assert!(Grant::new(&budget, &standing(2, 200_000)).afresh);
    assert!(!Grant::new(&budget, &standing(2, 200_001)).afresh);
    assert!(Grant::new(&budget, &standing(0, 0)).afresh);
}

const MS: Duration = Duration::from_millis(1);

/// Of 100 requests and of 10,000 tokens per second, so much is left.
fn seen(requests: u64, tokens: u64) -> impl Iterator<Item = Seen> {
    let standing = |budget: Budget, remaining| {
        let missing = (budget.burst - remaining) * budget.period;
        let standing = Standing {
            spent: 0,
            remaining,
            wait: 0,
            reset_after: missing.div_ceil(budget.count),
        };
        Seen::new(&budget, &standing, Duration::ZERO)
    };
    let requests = standing(Budget::per_second(100), requests);
    [
        requests,
        standing(Budget::per_second(10_000).burst(10_000), tokens),
    ]
    .into_iter()
}

#[test]
fn the_store_is_not_asked_for_what_it_cannot_have_yet() {
    let (mut lease, _) = lease();
    lease.saw(Duration::ZERO, seen(0, 0));
    // There are 9 requests and 900 tokens here. A token takes 0.1 ms, a request 10 ms.
    assert_eq!(
        lease.refused(Duration::ZERO, Duration::ZERO, &[9, 900]),
        None
    );
    assert_eq!(
        lease.refused(Duration::ZERO, Duration::ZERO, &[1, 1200]),
        Some(30 * MS)
    );
    assert_eq!(lease.refused(10 * MS, 10 * MS, &[1, 1200]), Some(20 * MS));
    assert_eq!(lease.refused(10 * MS, 10 * MS, &[1, 1000]), None);
    assert_eq!(lease.refused(10 * MS, 10 * MS, &[11, 1200]), Some(20 * MS));
    assert_eq!(lease.refused(15 * MS, 15 * MS, &[11, 1200]), Some(15 * MS));
    assert_eq!(lease.refused(30 * MS, 30 * MS, &[1, 1200]), None);
}

#[test]
fn who_waited_for_an_answer_keeps_to_it() {
    let (mut lease, _) = lease();
    lease.saw(2 * MS, seen(0, 0));
    // A request more would be there by now. But then a line of many would ask for one after the other.
    assert_eq!(lease.refused(2 * MS, 15 * MS, &[10, 0]), Some(8 * MS));
    assert_eq!(lease.refused(3 * MS, 15 * MS, &[10, 0]), None);
}

#[test]
fn the_store_is_asked_for_what_it_had() {
    let (mut lease, _) = lease();
    lease.saw(Duration::ZERO, seen(1, 300));
    assert_eq!(
        lease.refused(Duration::ZERO, Duration::ZERO, &[10, 1200]),
        None
    );
    assert_eq!(
        lease.refused(Duration::ZERO, Duration::ZERO, &[10, 1201]),
        Some(MS / 10)
    );
    assert_eq!(
        lease.refused(Duration::ZERO, Duration::ZERO, &[11, 1200]),
        Some(10 * MS)
    );
}

#[test]
fn what_the_store_had_is_believed_for_a_term() {
    let (mut lease, _) = lease();
    lease.saw(Duration::ZERO, seen(0, 0));
    let almost = LEASE_TERM - MS;
    assert_eq!(lease.refused(almost, almost, &[200, 0]), Some(911 * MS));
    assert_eq!(lease.refused(LEASE_TERM, LEASE_TERM, &[200, 0]), None);
}

#[test]
fn a_debt_is_waited_for() {
    let budget = Budget::per_second(10).burst(5);
    let standing = Standing {
        spent: 0,
        remaining: 0,
        wait: 0,
        reset_after: 930_000,
    };
    let seen = Seen::new(&budget, &standing, MS);
    assert_eq!(seen.wait(MS, 0), None);
    assert_eq!(seen.wait(MS, 1), Some(530 * MS));
    assert_eq!(seen.wait(MS, 3), Some(730 * MS));
}

#[test]
fn what_goes_back_to_the_store_may_be_asked_for_at_once() {
    let (mut lease, taken) = lease();
    lease.saw(Duration::ZERO, seen(0, 0));
    assert_eq!(lease.give_back(taken, &[0, 0], &SLICES), [0, 0]);
    assert_eq!(
        lease.refused(Duration::ZERO, Duration::ZERO, &[11, 0]),
        Some(20 * MS)
    );
    // This stays here.
    assert_eq!(lease.give_back(taken, &[1, 100], &SLICES), [0, 0]);
    assert_eq!(
        lease.refused(Duration::ZERO, Duration::ZERO, &[11, 0]),
        Some(10 * MS)
    );
    assert_eq!(lease.give_back(taken, &[1, 0], &SLICES), [1, 0]);
    assert_eq!(
        lease.refused(Duration::ZERO, Duration::ZERO, &[11, 0]),
        None
    );
    assert_eq!(
        lease.refused(Duration::ZERO, Duration::ZERO, &[0, 1010]),
        Some(MS)
    );
    lease.close(None);
    assert_eq!(
        lease.refused(Duration::ZERO, Duration::ZERO, &[0, 1010]),
        None
    );
}

#[test]
fn what_came_back_goes_to_the_store_with_the_rest() {
    let (mut lease, taken) = lease();
    assert_eq!(lease.give_back(taken, &[1, 100], &SLICES), [0, 0]);
    assert_eq!(lease.close(None), Some((SLICES.to_vec(), 5)));
}

#[test]
fn what_comes_back_too_late_goes_to_the_store() {
    let (mut lease, taken) = lease();
    assert_eq!(lease.close(Some(taken.term)), Some((vec![9, 900], 5)));
    assert_eq!(lease.give_back(taken, &[1, 100], &SLICES), [1, 100]);
    let draw = lease.draw(&[0, 0], &SLICES);
    lease.put(&draw, &grants([5, 500]), 20);
    assert_eq!(lease.give_back(taken, &[1, 100], &SLICES), [1, 100]);
}

#[test]
fn what_is_more_than_a_slice_goes_to_the_store() {
    let (mut lease, taken) = lease();
    assert_eq!(lease.give_back(taken, &[4, 50], &SLICES), [3, 0]);
}

#[test]
fn what_is_owed_is_taken_from_here_first() {
    let (mut lease, taken) = lease();
    assert_eq!(lease.owe(&[0, 1000]), [0, 100]);
    assert_eq!(lease.take(&[1, 1]), None);
    lease.close(None);
    assert_eq!(lease.owe(&[1, 5]), [1, 5]);
    assert_eq!(lease.close(Some(taken.term)), None);
}

#[test]
fn another_term_is_not_ended() {
    let (mut lease, taken) = lease();
    assert_eq!(lease.close(Some(taken.term + 1)), None);
    assert!(lease.is_open());
}
