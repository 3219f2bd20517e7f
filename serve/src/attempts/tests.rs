//! The time is what the tests say; nobody waits.

use super::*;

fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Fails once at a time, and returns the delay if it was not looked at.
fn fail(attempts: &Attempts, name: &str, address: &str, now: Duration) -> Option<Duration> {
    match attempts.begin(Some(&user(name)), ip(address), now) {
        Ok(attempt) => {
            drop(attempt);
            None
        }
        Err(refused) => Some(refused.retry_after),
    }
}

#[test]
fn the_delay_doubles_up_to_a_bound_and_asking_early_costs_nothing() {
    let attempts = Attempts::default();
    for _ in 0..11 {
        assert_eq!(fail(&attempts, "ann", "1.1.1.1", at(0)), None);
    }
    let (mut now, mut delays) = (at(0), Vec::new());
    for _ in 0..14 {
        let delay = fail(&attempts, "ann", "1.1.1.1", now).unwrap();
        assert_eq!(fail(&attempts, "ann", "1.1.1.1", now), Some(delay), "asking again changes nothing");
        delays.push(delay.as_secs());
        now += delay;
        assert_eq!(fail(&attempts, "ann", "1.1.1.1", now), None, "it is let through when it was said");
    }
    assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
    assert_eq!(fail(&attempts, "ann", "1.1.1.1", now + FORGOTTEN_AFTER), None);
    assert_eq!(fail(&attempts, "ann", "1.1.1.1", now + FORGOTTEN_AFTER), None, "all is forgotten after a quiet hour");
}

#[test]
fn an_address_is_slowed_whoever_it_says_it_is_and_whether_or_not_there_is_such_a_user() {
    let attempts = Attempts::default();
    for number in 0..11 {
        assert_eq!(fail(&attempts, &format!("nobody-{number}"), "1.1.1.1", at(0)), None);
    }
    assert_eq!(fail(&attempts, "ann", "1.1.1.1", at(0)), Some(at(1)));
    assert_eq!(fail(&attempts, "ann", "1.1.1.2", at(0)), None);
    // One customer's IPv6 addresses are one, and an IPv4 address in IPv6 is itself.
    for number in 0..11 {
        assert_eq!(fail(&attempts, &format!("somebody-{number}"), &format!("2a00:1::{number}"), at(0)), None);
    }
    assert_eq!(fail(&attempts, "bob", "2a00:1::ffff", at(0)), Some(at(1)));
    assert_eq!(fail(&attempts, "bob", "2a00:1:0:1::1", at(0)), None);
    assert_eq!(fail(&attempts, "ann", "::ffff:1.1.1.1", at(0)), Some(at(1)));
}

#[test]
fn a_user_is_slowed_from_all_addresses_together_but_never_for_longer_than_half_a_minute() {
    let attempts = Attempts::default();
    for number in 0..11 {
        assert_eq!(fail(&attempts, "ann", &format!("1.1.1.{number}"), at(0)), None);
    }
    assert_eq!(fail(&attempts, "ann", "1.1.2.1", at(0)), Some(at(1)));
    let mut now = at(0);
    for number in 0..40 {
        now += fail(&attempts, "ann", &format!("1.1.3.{number}"), now).unwrap();
        assert_eq!(fail(&attempts, "ann", &format!("1.1.3.{number}"), now), None);
    }
    assert_eq!(fail(&attempts, "ann", "1.1.4.1", now), Some(at(30)));
    assert_eq!(fail(&attempts, "bob", "1.1.4.1", now), None, "nobody else is slowed");
}

#[test]
fn one_address_that_never_stops_guessing_does_not_keep_the_user_out() {
    let attempts = Attempts::default();
    // It asks every second for an hour and takes each turn that it can have.
    let mut looked_at = 0;
    let mut let_in = 0;
    for second in 0..3600 {
        looked_at += usize::from(fail(&attempts, "ann", "6.6.6.6", at(second)).is_none());
        // The user comes after the guess, in every minute, from an address that has never been seen.
        if second % 60 == 59 {
            let attempt = attempts.begin(Some(&user("ann")), ip(&format!("9.9.9.{}", second / 60)), at(second));
            if let Ok(attempt) = attempt {
                attempt.take_back();
                let_in += 1;
            }
        }
    }
    assert!(looked_at <= 24, "{looked_at} guesses were looked at in an hour");
    assert!(let_in >= 50, "the user got in {let_in} times of 60");
}

#[test]
fn where_a_user_has_logged_in_before_guesses_from_everywhere_else_delay_nothing() {
    let attempts = Attempts::default();
    attempts.begin(Some(&user("ann")), ip("9.9.9.9"), at(0)).unwrap().was_right(at(0));
    for number in 0..=255 {
        _ = fail(&attempts, "ann", &format!("6.6.6.{number}"), at(1));
    }
    assert!(fail(&attempts, "ann", "8.8.8.8", at(1)).is_some());
    assert_eq!(fail(&attempts, "ann", "9.9.9.9", at(1)), None);
    // Guessing from there is slowed like anywhere.
    let looked_at = (0..100).filter(|_| fail(&attempts, "ann", "9.9.9.9", at(1)).is_none()).count();
    assert_eq!(looked_at, 10);
}

#[test]
fn logging_in_rightly_gives_a_guesser_nothing() {
    let attempts = Attempts::default();
    for _ in 0..11 {
        assert_eq!(fail(&attempts, "ann", "6.6.6.6", at(0)), None);
    }
    // Its own account changes nothing for the address.
    attempts.begin(Some(&user("mallory")), ip("6.6.6.6"), at(1)).unwrap().was_right(at(1));
    assert_eq!(fail(&attempts, "ann", "6.6.6.6", at(2)), None);
    assert_eq!(fail(&attempts, "bob", "6.6.6.6", at(2)), Some(at(2)));
}

#[test]
fn many_at_once_are_let_through_until_some_have_failed_and_then_one_at_a_time() {
    let attempts = Attempts::default();
    let begin = |now| attempts.begin(Some(&user("ann")), ip("1.1.1.1"), now);
    let at_once: Vec<_> = (0..UNDER_WAY_MAX).map(|_| begin(at(0)).unwrap()).collect();
    assert_eq!(begin(at(0)).unwrap_err().retry_after, at(1));
    at_once.into_iter().for_each(Attempt::take_back);
    begin(at(0)).unwrap().take_back();
    let at_once: Vec<_> = (0..UNDER_WAY_MAX).map(|_| begin(at(0)).unwrap()).collect();
    drop(at_once);
    // One burst of guesses, and from then on single ones.
    let delay = begin(at(0)).unwrap_err().retry_after;
    assert_eq!(delay, at(900));
    let one = begin(delay).unwrap();
    assert!(begin(delay).is_err());
    one.take_back();
}

#[test]
fn memory_is_bounded_and_those_who_failed_most_are_remembered() {
    let attempts = Attempts::default();
    for _ in 0..11 {
        assert_eq!(fail(&attempts, "ann", "6.6.6.6", at(0)), None);
    }
    for number in 0..3 * REMEMBERED_MAX {
        let [_, b, c, d] = u32::try_from(number).unwrap().to_be_bytes();
        assert_eq!(fail(&attempts, &format!("u{number}"), &format!("7.{b}.{c}.{d}"), at(0)), None);
    }
    let memory = attempts.memory.lock();
    assert!(memory.users.0.len() <= REMEMBERED_MAX && memory.addresses.0.len() <= REMEMBERED_MAX);
    drop(memory);
    assert_eq!(fail(&attempts, "ann", "5.5.5.5", at(0)), Some(at(1)));
    assert_eq!(fail(&attempts, "bob", "6.6.6.6", at(0)), Some(at(1)));
    for number in 0..FAMILIAR_MAX + 2 {
        let name = user(&format!("f{number}"));
        attempts.begin(Some(&name), ip("9.9.9.9"), at(0)).unwrap().was_right(at(0));
    }
    assert!(attempts.memory.lock().familiar.len() <= FAMILIAR_MAX);
}
