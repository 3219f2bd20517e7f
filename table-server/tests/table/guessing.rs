//! Whether the time that an answer takes tells who is a user.

#![allow(clippy::print_stdout, reason = "the figures are worth reading")]

use std::time::Instant;

use gigfs_core::ErrorCode;
use gigfs_core::api::NewSession;
use reqwest::Method;

use crate::world::*;

/// How far apart two samples are, in standard deviations of what chance does to their ranks (Mann and Whitney).
fn distance(one: &[u128], other: &[u128]) -> f64 {
    let mut all: Vec<(u128, bool)> = one.iter().map(|took| (*took, true)).collect();
    all.extend(other.iter().map(|took| (*took, false)));
    all.sort_unstable();
    let ranks: f64 = all.iter().enumerate().filter(|(_, (_, is_one))| *is_one).map(|(rank, _)| rank as f64 + 1.0).sum();
    let (n, m) = (one.len() as f64, other.len() as f64);
    let expected = n * (n + m + 1.0) / 2.0;
    (ranks - expected) / (n * m * (n + m + 1.0) / 12.0).sqrt()
}

fn median(sample: &[u128]) -> u128 {
    let mut sample = sample.to_vec();
    sample.sort_unstable();
    sample[sample.len() / 2]
}

/// Beyond this, chance is the reason once in two million times.
const DISTANCE_MAX: f64 = 5.0;
const USERS: usize = 400;

/// Each guess is at another name and from another address, so that none is slowed; users and those that are none take
/// turns, so that whatever else the machine does befalls both alike.
#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_take_the_same_time() {
    let world = World::start_with(|config| config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    for at in 0..USERS {
        world.table.create_user(&user(&format!("user-{at}")), new_master(&[1; 32])).await.unwrap();
    }
    let new = NewSession { timeout: 60, description: String::new() };
    let guess = async |name: String, from: String| {
        let request = world.http.post(format!("{}/user/{name}/session", world.url)).json(&new);
        let request = request.header("x-forwarded-for", from).header("authorization", master_header(&[9; 32]));
        let began = Instant::now();
        let answer = within("an answer", request.send()).await.unwrap();
        let took = began.elapsed().as_micros();
        refused_as(ErrorCode::Unauthorized, answer).await;
        took
    };
    let (mut of_users, mut of_nobody) = (Vec::new(), Vec::new());
    for at in 0..USERS {
        let address = |side: usize| format!("9.{side}.{}.{}", at / 250, at % 250);
        for is_user in [at % 2 == 0, at % 2 == 1] {
            match is_user {
                true => of_users.push(guess(format!("user-{at}"), address(1)).await),
                false => of_nobody.push(guess(format!("none-{at}"), address(2)).await),
            }
        }
    }
    tell("logins", &of_users, &of_nobody);
}

#[tokio::test]
async fn the_parameters_of_an_unknown_user_take_the_same_time() {
    let world = World::start().await;
    world.person("ann").await;
    world.person("cecily").await;
    let ask = async |name: &str| {
        let began = Instant::now();
        let answer = world.send(Method::GET, &format!("/user/{name}/password"), "", None::<&()>).await;
        let took = began.elapsed().as_micros();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap();
        took
    };
    let (mut of_users, mut of_nobody) = (Vec::new(), Vec::new());
    for at in 0..USERS {
        for is_user in [at % 2 == 0, at % 2 == 1] {
            match is_user {
                true => of_users.push(ask("ann").await),
                false => of_nobody.push(ask("bob").await),
            }
        }
    }
    tell("parameters", &of_users, &of_nobody);
}

#[track_caller]
fn tell(what: &str, of_users: &[u128], of_nobody: &[u128]) {
    let (distance, users, nobody) = (distance(of_users, of_nobody), median(of_users), median(of_nobody));
    println!("{what}: {users} µs for users, {nobody} µs for nobody, {distance:.1} standard deviations apart");
    assert!(distance.abs() < DISTANCE_MAX, "{what}: {users} µs for users, {nobody} µs for nobody, {distance:.1} apart");
}

#[test]
fn a_difference_that_shows_is_found() {
    let (short, long): (Vec<u128>, Vec<u128>) = (0..USERS as u128).map(|at| (at % 100, at % 100 + 30)).unzip();
    assert!(distance(&long, &short) > DISTANCE_MAX && distance(&short, &long) < -DISTANCE_MAX);
    assert!(distance(&short, &short.iter().rev().copied().collect::<Vec<_>>()).abs() < 1.0);
}
