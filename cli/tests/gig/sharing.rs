//! Two users of a table and a channel of the one's: what the other reads and writes, and for how long.

use serde_json::{Value, json};

use crate::world::{Apart, Device, PASSWORD, Tap};

/// The owner's device has the sealed channel "diary" at one store; the guest's has no channel.
struct World {
    apart: Apart,
    guest: Device,
}

impl World {
    fn new() -> Self {
        let apart = Apart::with_stores(1);
        apart.device.run(["channel", "add", "diary"]).ok();
        let guest = user(&apart, "bob");
        Self { apart, guest }
    }

    fn owner(&self) -> &Device {
        &self.apart.device
    }

    fn share(&self, how: &str) {
        self.owner().run(["share", "diary", "bob", how, "--fingerprint", &fingerprint(&self.guest)]).ok();
        self.guest.run(["accept", "me", "diary", "--fingerprint", &fingerprint(self.owner())]).ok();
    }

    fn write(&self, text: &str) {
        self.owner().run(["push", "diary", "list", "/a", &json!({"append": text}).to_string()]).ok();
    }

    fn read_by_guest(&self) -> Value {
        self.guest.run(["--json", "--of", "me", "get", "diary", "list", "/a"]).json()["value"].clone()
    }
}

fn user(apart: &Apart, name: &str) -> Device {
    apart.table.admin(&["table", "add-user", name, "--password-stdin"], PASSWORD).ok();
    let device = Device::new();
    let login = ["login", &apart.table.url, "--user", name, "--password-stdin"];
    device.run_with(login, PASSWORD.as_bytes()).ok();
    device
}

fn fingerprint(device: &Device) -> String {
    device.run(["--json", "identity"]).json()["fingerprint"].as_str().unwrap().to_owned()
}

#[test]
fn a_guest_reads_and_writes_what_is_shared_and_both_see_who_vouches_for_it() {
    let world = World::new();
    world.write("by me");
    world.share("--write");
    assert_eq!(world.read_by_guest(), json!(["by me"]));
    world.guest.run(["--of", "me", "push", "diary", "list", "/a", r#"{"append":"by bob"}"#]).ok();
    world.guest.run(["--of", "me", "flush"]).ok();
    let both = json!(["by me", "by bob"]);
    assert_eq!(world.owner().run(["--json", "get", "diary", "list", "/a"]).json()["value"].clone(), both);
    let other = Device::logged_in(&world.apart);
    assert_eq!(
        other.run(["--json", "get", "diary", "list", "/a"]).json()["value"].clone(),
        both,
        "another device of the owner's"
    );
    let listed = world.guest.run(["--json", "--of", "me", "ls", "diary"]).ok();
    assert!(listed.contains("/a") && !listed.contains("roster"), "{listed}");
    let shared = world.guest.run(["--json", "shared"]).json();
    assert_eq!(shared["shared"][0]["accepted"], json!(true));
    let guests = world.owner().run(["--json", "shared", "diary"]).json();
    assert_eq!(guests["guests"][0], json!({"user": "bob", "permission": "write", "admin": false}));
}

#[test]
fn nothing_is_shared_and_nothing_accepted_before_the_fingerprint_was_compared() {
    let world = World::new();
    let unpinned = world.owner().run(["--json", "share", "diary", "bob", "--read"]);
    assert_eq!(unpinned.code, Some(5), "{unpinned:?}");
    let wrong = fingerprint(world.owner());
    let mistaken = world.owner().run(["--json", "share", "diary", "bob", "--read", "--fingerprint", &wrong]);
    assert_eq!(mistaken.code, Some(5), "{mistaken:?}");
    assert_eq!(world.guest.run(["--json", "shared"]).json(), json!({"shared": []}));
    let right = fingerprint(&world.guest);
    world.owner().run(["share", "diary", "bob", "--read", "--fingerprint", &right]).ok();
    let unpinned = world.guest.run(["--json", "accept", "me", "diary"]);
    assert_eq!(unpinned.code, Some(5), "{unpinned:?}");
    let before = world.guest.run(["--json", "--of", "me", "get", "diary", "list", "/a"]);
    assert_eq!(before.code, Some(5), "{before:?}");
}

#[test]
fn a_guest_who_may_read_cannot_write_and_sees_no_other_channel() {
    let world = World::new();
    world.write("by me");
    world.share("--read");
    assert_eq!(world.read_by_guest(), json!(["by me"]));
    world.guest.run(["--of", "me", "push", "diary", "list", "/a", r#"{"append":"by bob"}"#]);
    assert_eq!(world.owner().run(["--json", "get", "diary", "list", "/a"]).json()["value"].clone(), json!(["by me"]));
    let elsewhere = world.guest.run(["--of", "me", "get", "home", "list", "/a"]);
    assert_eq!(elsewhere.code, Some(5), "{elsewhere:?}");
    let stranger = user(&world.apart, "eve");
    let refused = stranger.run(["accept", "me", "diary", "--fingerprint", &fingerprint(world.owner())]);
    assert_eq!(refused.code, Some(5), "{refused:?}");
}

#[test]
fn whoever_is_taken_off_hears_nothing_more_at_once_and_those_who_stay_read_on_under_new_keys() {
    let world = World::new();
    world.share("--write");
    let other = user(&world.apart, "ann");
    world.owner().run(["share", "diary", "ann", "--write", "--fingerprint", &fingerprint(&other)]).ok();
    other.run(["accept", "me", "diary", "--fingerprint", &fingerprint(world.owner())]).ok();
    world.write("before");
    let follow = ["--json", "--of", "me", "on", "diary", "list", "/a"];
    let (mut follows, bob) = crate::world::start(&mut world.guest.command(follow));
    let (_ann, ann) = crate::world::start(&mut other.command(follow));
    for lines in [&bob, &ann] {
        lines.until(|line| line["value"] == json!(["before"]));
    }
    world.write("meanwhile");
    for lines in [&bob, &ann] {
        lines.until(|line| line["value"] == json!(["before", "meanwhile"]));
    }
    world.owner().run(["unshare", "diary", "bob"]).ok();
    world.write("after");
    ann.until(|line| line["value"] == json!(["before", "meanwhile", "after"]));
    assert_eq!(follows.ended(), Some(5), "it says that it is over");
    let heard = bob.rest();
    assert!(heard.iter().all(|line| !line.contains("after")), "{heard:?}");
    let refused = world.guest.run(["--json", "--of", "me", "push", "diary", "list", "/a", r#"{"append":"late"}"#]);
    assert_eq!(refused.json()["accepted"], json!(0), "it stays on the guest's device");
    other.run(["--of", "me", "push", "diary", "list", "/a", r#"{"append":"by ann"}"#]).ok();
    other.run(["--of", "me", "flush"]).ok();
    let all = world.owner().run(["--json", "get", "diary", "list", "/a"]).json()["value"].clone();
    assert_eq!(all, json!(["before", "meanwhile", "after", "by ann"]));
}

#[test]
fn unsharing_that_was_cut_off_anywhere_is_whole_once_it_is_repeated() {
    let apart = Apart::with_stores(1);
    let wire = Tap::start(&apart.table.url);
    let owner = Device::new();
    owner.run_with(["login", &wire.url, "--user", "me", "--password-stdin"], PASSWORD.as_bytes()).ok();
    let (bob, ann) = (user(&apart, "bob"), user(&apart, "ann"));
    let mut cut_off = 0;
    loop {
        let channel = format!("diary-{cut_off}");
        owner.run(["channel", "add", &channel]).ok();
        for (name, guest) in [("bob", &bob), ("ann", &ann)] {
            owner.run(["share", &channel, name, "--write", "--fingerprint", &fingerprint(guest)]).ok();
            guest.run(["accept", "me", &channel, "--fingerprint", &fingerprint(&owner)]).ok();
        }
        owner.run(["push", &channel, "list", "/a", r#"{"append":"before"}"#]).ok();
        wire.cut_after(cut_off);
        let first = owner.run(["--json", "unshare", &channel, "bob"]);
        wire.mend();
        let is_whole = first.code == Some(0);
        let done = if is_whole { first } else { owner.run(["--json", "unshare", &channel, "bob"]) };
        assert_eq!(done.json()["keys"], json!("renewed"), "after {cut_off} answers");
        owner.run(["push", &channel, "list", "/a", r#"{"append":"after"}"#]).ok();
        let read = |guest: &Device| guest.run(["--json", "--of", "me", "get", &channel, "list", "/a"]).json();
        assert_eq!(read(&ann)["value"], json!(["before", "after"]), "after {cut_off} answers");
        let guests = owner.run(["--json", "shared", &channel]).json();
        assert_eq!(guests["guests"], json!([{"user": "ann", "permission": "write", "admin": false}]));
        assert!(!bob.run(["--json", "shared"]).ok().contains(&channel), "bob, after {cut_off} answers");
        assert_eq!(owner.run(["unshare", &channel, "bob"]).code, Some(5), "there is nobody left to take off");
        if is_whole {
            break;
        }
        cut_off += 1;
    }
    assert!(cut_off > 4, "it was cut off {cut_off} times");
}

#[test]
fn an_admin_lets_others_in_and_out_and_the_owner_renews_the_keys() {
    let world = World::new();
    world.write("by me");
    world.share("--admin");
    let (ann, eve) = (user(&world.apart, "ann"), user(&world.apart, "eve"));
    let share = |by: &Device, whom: &Device, name: &str, how: &str| {
        by.run(["--json", "--of", "me", "share", "diary", name, how, "--fingerprint", &fingerprint(whom)])
    };
    share(&world.guest, &ann, "ann", "--write").ok();
    ann.run(["accept", "me", "diary", "--fingerprint", &fingerprint(world.owner())]).ok();
    let read =
        |device: &Device| device.run(["--json", "--of", "me", "get", "diary", "list", "/a"]).json()["value"].clone();
    assert_eq!(read(&ann), json!(["by me"]));
    ann.run(["--of", "me", "push", "diary", "list", "/a", r#"{"append":"by ann"}"#]).ok();
    ann.run(["--of", "me", "flush"]).ok();
    let both = json!(["by me", "by ann"]);
    assert_eq!((read(world.owner()), read(&world.guest)), (both.clone(), both));

    for refused in [share(&ann, &eve, "eve", "--read"), share(&world.guest, &eve, "eve", "--admin")] {
        assert_eq!(refused.code, Some(5), "{refused:?}");
        assert!(refused.err.contains("forbidden"), "{refused:?}");
    }

    let ended = world.guest.run(["--json", "--of", "me", "unshare", "diary", "ann"]).json();
    assert_eq!(ended["keys"], json!("left_to_owner"));
    let late = ann.run(["--json", "--of", "me", "push", "diary", "list", "/a", r#"{"append":"late"}"#]);
    assert_eq!(late.json()["accepted"], json!(0), "it stays on the guest's device");
    let to_renew = || world.owner().run(["--json", "status"]).json()["to_renew"].clone();
    assert_eq!(to_renew(), json!([{"channel": "diary", "user": "ann"}]));
    let renewed = world.owner().run(["--json", "unshare", "diary", "ann"]).json();
    assert_eq!((renewed["keys"].clone(), to_renew()), (json!("renewed"), json!([])));
    world.write("under new keys");
    assert_eq!(read(&world.guest), json!(["by me", "by ann", "under new keys"]));
    assert_eq!(world.owner().run(["unshare", "diary", "ann"]).code, Some(5), "there is nobody left to take off");
}

#[test]
fn what_the_table_calls_a_channel_in_the_clear_is_accepted_only_if_the_person_does_too() {
    let world = World::new();
    world.owner().run(["channel", "add", "open", "--plain"]).ok();
    world.owner().run(["push", "open", "list", "/a", r#"{"append":"for all"}"#]).ok();
    world.owner().run(["share", "open", "bob", "--read", "--fingerprint", &fingerprint(&world.guest)]).ok();
    let accept = ["--json", "accept", "me", "open", "--fingerprint", &fingerprint(world.owner())];
    let refused = world.guest.run(accept);
    assert_eq!((refused.code, refused.err.contains("not_granted")), (Some(5), true), "{refused:?}");
    world.guest.run(accept.iter().chain(&["--plain"])).ok();
    let read = world.guest.run(["--json", "--of", "me", "get", "open", "list", "/a"]).json();
    assert_eq!(read["value"], json!(["for all"]));
}

#[test]
fn one_store_that_takes_the_entry_is_enough_to_share_and_none_is_too_few() {
    let mut apart = Apart::with_stores(2);
    apart.device.run(["channel", "add", "diary"]).ok();
    let guest = user(&apart, "bob");
    let share = |apart: &Apart| {
        apart.device.run(["--json", "share", "diary", "bob", "--read", "--fingerprint", &fingerprint(&guest)])
    };
    apart.stores[1].stop();
    share(&apart).ok();
    apart.stores[0].stop();
    let refused = share(&apart);
    assert_eq!((refused.code, refused.err.contains("not_enrolled")), (Some(3), true), "{refused:?}");
}

#[test]
fn what_is_about_ones_own_things_is_not_done_in_anothers_name() {
    let world = World::new();
    world.share("--write");
    for command in [&["channel", "rm", "diary"][..], &["channel", "ls"], &["store", "ls"], &["shared"], &["logout"]] {
        let refused = world.guest.run(["--of", "me"].iter().chain(command));
        assert_eq!(refused.code, Some(2), "{refused:?}");
    }
    let own = world.guest.run(["--json", "--of", "me", "shared", "diary"]).json();
    assert_eq!(own["guests"][0]["user"], json!("bob"), "the guests of the channel that is meant");
    world.owner().run(["--of", "me", "push", "diary", "list", "/a", r#"{"append":"mine"}"#]).ok();
    assert_eq!(world.owner().run(["--json", "get", "diary", "list", "/a"]).json()["value"], json!(["mine"]));
}

#[test]
fn a_fingerprint_that_was_compared_stays_until_it_is_forgotten() {
    let world = World::new();
    world.share("--read");
    world.owner().run(["share", "diary", "bob", "--write"]).ok();
    world.owner().run(["unpin", "bob"]).ok();
    let again = world.owner().run(["--json", "share", "diary", "bob", "--write"]);
    assert_eq!((again.code, again.err.contains("fingerprint_not_compared")), (Some(5), true), "{again:?}");
    let unknown = world.owner().run(["--json", "unpin", "bob"]);
    assert_eq!((unknown.code, unknown.err.contains("not_found")), (Some(5), true), "{unknown:?}");
}

#[test]
fn a_channel_is_not_in_the_clear_because_an_earlier_one_of_its_name_was() {
    let world = World::new();
    world.owner().run(["channel", "add", "open", "--plain"]).ok();
    world.owner().run(["channel", "rm", "open"]).ok();
    let refused = world.owner().run(["--json", "channel", "add", "open"]);
    assert_eq!((refused.code, refused.err.contains("--plain")), (Some(5), true), "{refused:?}");
    world.owner().run(["channel", "add", "open", "--plain"]).ok();
}
