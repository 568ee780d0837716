use fastrand::Rng;

use super::*;

/// Lognormal, by Box and Muller.
fn draw(random: &mut Rng, mu: f64, sigma: f64) -> u64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * random.f64()).cos();
    (mu + sigma * normal).exp().round() as u64
}

fn expected(learned: &Learned) -> u64 {
    learned.expect("tenant", "model", None)
}

#[test]
fn before_anything_is_known_the_prior_is_expected() {
    let learned = Learned::default();
    assert_eq!(expected(&learned), 1000);
    assert_eq!(learned.expect("tenant", "model", Some(10)), 10);
    assert_eq!(expected(&Learned::default().prior(7)), 7);
}

#[test]
fn quantiles_of_published_traces_are_met() {
    let mut random = Rng::with_seed(3);
    // Conversation and code (Azure 2023), conversation (Mooncake).
    for (mu, sigma) in [(5.02, 0.86), (2.79, 0.85), (5.34, 1.36)] {
        for quantile in [0.5, 0.9, 0.99] {
            let mut learned = Learned::default().quantile(quantile);
            let (mut within, mut asked) = (0, 0);
            for n in 0..20_000 {
                let output = draw(&mut random, mu, sigma);
                if n > 500 {
                    asked += 1;
                    within += u32::from(output <= expected(&learned));
                }
                learned.learn("tenant", "model", output);
            }
            let share = f64::from(within) / f64::from(asked);
            assert!(
                (share - quantile).abs() < 0.02,
                "{mu} {sigma} {quantile}: {share}"
            );
        }
    }
}

#[test]
fn a_change_is_followed_within_a_few_hundred_answers() {
    let mut random = Rng::with_seed(4);
    let mut learned = Learned::default();
    let teach = |learned: &mut Learned, mu: f64, n: u32, random: &mut Rng| {
        for _ in 0..n {
            learned.learn("tenant", "model", draw(random, mu, 0.3));
        }
    };
    teach(&mut learned, 4.0, 10_000, &mut random);
    let before = expected(&learned);
    assert!((60..110).contains(&before), "{before}");
    teach(&mut learned, 7.0, 100, &mut random);
    assert!(expected(&learned) > 1000);
    teach(&mut learned, 4.0, 600, &mut random);
    let after = expected(&learned);
    assert!((60..120).contains(&after), "{after}");
}

#[test]
fn a_few_answers_outweigh_the_prior() {
    let mut learned = Learned::default();
    for n in 1..=30 {
        learned.learn("tenant", "model", 50);
        let expected = expected(&learned);
        assert!(expected <= 1024, "{n}: {expected}");
        assert!(n < 28 || expected <= 64, "{n}: {expected}");
    }
}

#[test]
fn a_new_key_begins_with_what_the_model_does() {
    let mut learned = Learned::default();
    for _ in 0..200 {
        learned.learn("talker", "model", 4000);
        learned.learn("talker", "other", 10);
    }
    let stranger = learned.expect("stranger", "model", None);
    assert!((2900..=4100).contains(&stranger), "{stranger}");
    for _ in 0..40 {
        learned.learn("stranger", "model", 100);
    }
    assert!(learned.expect("stranger", "model", None) < 150);
    assert!(learned.expect("talker", "model", None) > 2900);
    assert!(learned.expect("talker", "other", None) < 20);
}

#[test]
fn no_more_pairs_are_remembered_than_there_is_room_for() {
    let mut learned = Learned::new(64);
    for n in 0..10_000_u32 {
        learned.learn(&n, &format!("model {}", n % 300), 10);
        assert!(learned.len() <= 64);
    }
    assert_eq!(learned.len(), 64);
}

#[test]
fn a_pair_that_is_used_is_not_forgotten_for_pairs_that_are_not() {
    let mut learned = Learned::new(8);
    for n in 0..1000_u32 {
        learned.learn("regular", "model", 20);
        learned.learn(&n, "model", 5000);
        assert!(learned.expect("regular", "model", None) < 2000, "{n}");
    }
    assert!(learned.expect("regular", "model", None) < 50);
}

#[test]
fn asking_makes_nothing_be_remembered() {
    let learned = Learned::new(8);
    for n in 0..100_u32 {
        let _ = learned.expect(&n, "model", None);
    }
    assert_eq!(learned.len(), 0);
}

#[test]
fn any_number_of_tokens_has_a_bucket_that_holds_it() {
    for output in [0, 1, 2, 3, 4, 5, 1000, 1 << 20, u64::MAX] {
        let bucket = bucket(output) as f64;
        let held = (output.clamp(1, 1 << 20)) as f64;
        assert!(
            edge(bucket - 1.0) < held && held <= edge(bucket) * 1.000_001,
            "{output}"
        );
    }
    let mut learned = Learned::default();
    for _ in 0..100_000 {
        learned.learn("tenant", "model", u64::MAX);
    }
    assert!(expected(&learned) <= 1 << 20);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let error = Learned::try_new(0).unwrap_err();
    assert_eq!(error.to_string(), "pairs is 0, but must be at least 1");
    for quantile in [0.0, 1.0, -1.0, f64::NAN] {
        let error = Learned::default().try_quantile(quantile).unwrap_err();
        assert_eq!(error.field(), "quantile");
    }
}
