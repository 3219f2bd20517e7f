//! Sharing a channel with other users of the table: who may, what guests find, and how it ends.

use std::time::{Duration, Instant};

use gigfs_core::api::{
    CommitResults, Confirm, Guest, GuestEntry, Guests, IdentityRecord, MountTable, MountedChannel, Shared, TableChanged,
};
use gigfs_core::seal::{ChannelKeys, Grant, Identity, Invitation, Role, Secret};
use gigfs_core::token::{Permission, RevokeClaims};
use gigfs_core::{Date, ErrorCode};
use reqwest::{Method, Response};
use serde_json::json;

use crate::world::*;

const READ: Permission = Permission::Read;
const WRITE: Permission = Permission::Write;

/// Ann has the channels notes and photos at one store; bobby and carolyn have nothing.
struct Scene {
    world: World,
    ann: Person,
    bob: Person,
    carol: Person,
    store: StoreSide,
    confirm: Confirm,
}

impl Scene {
    async fn new() -> Self {
        let world = World::start().await;
        let (ann, bob, carol) = (world.person("ann").await, world.person("bobby").await, world.person("carolyn").await);
        let mut store = StoreSide::start(1).await;
        world.mount(&ann, "notes", &store).await;
        let (_, confirm) = store.hears_confirm().await;
        world.mount(&ann, "photos", &store).await;
        store.hears_confirm().await;
        Self { world, ann, bob, carol, store, confirm }
    }

    /// Shares a channel of ann's.
    async fn try_share(
        &self,
        by: &Person,
        channel: &str,
        guest: &str,
        permission: Permission,
        admin: bool,
    ) -> Response {
        self.put(by, channel, guest, &Guest { permission, admin, grant: Vec::new() }).await
    }

    async fn put(&self, by: &Person, channel: &str, guest: &str, body: &Guest) -> Response {
        let path = format!("/user/ann/table/{channel}/guest/{guest}");
        self.world.send(Method::PUT, &path, &by.bearer(), Some(body)).await
    }

    async fn share(&self, channel: &str, guest: &Person, permission: Permission) -> u64 {
        epoch(self.try_share(&self.ann, channel, &guest.name, permission, false).await).await
    }

    async fn try_unshare(&self, by: &Person, channel: &str, guest: &str) -> Response {
        self.at_ann(Method::DELETE, &format!("/table/{channel}/guest/{guest}"), by).await
    }

    async fn unshare(&self, channel: &str, guest: &Person) -> u64 {
        epoch(self.try_unshare(&self.ann, channel, &guest.name).await).await
    }

    /// Asks for something of ann's without a body.
    async fn at_ann(&self, method: Method, path: &str, by: &Person) -> Response {
        self.world.send(method, &format!("/user/ann{path}"), &by.bearer(), None::<&()>).await
    }

    /// Returns ann's channels as another finds them.
    async fn found_by(&self, who: &Person) -> MountTable {
        let answer = self.at_ann(Method::GET, "/table", who).await;
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    /// Returns a guest's token for a channel.
    async fn token(&self, who: &Person, channel: &str) -> String {
        let answer = self.at_ann(Method::GET, &format!("/table/{channel}"), who).await;
        assert_eq!(answer.status(), 200);
        answer.json::<MountedChannel>().await.unwrap().stores[0].token.clone()
    }

    async fn check(&self, token: &str) -> Response {
        self.world.check("ann", &format!("Bearer {token}")).await
    }

    async fn revocation(&mut self) -> RevokeClaims {
        self.store.hears_revocation(&self.confirm).await
    }

    async fn shared_with(&self, who: &Person) -> Shared {
        self.world.get("/shared", who).await
    }
}

async fn epoch(answer: Response) -> u64 {
    assert_eq!(answer.status(), 200);
    answer.json::<TableChanged>().await.unwrap().epoch
}

fn names(table: &MountTable) -> Vec<&str> {
    table.channels.iter().map(|mounted| mounted.channel.as_str()).collect()
}

#[tokio::test]
async fn a_guest_finds_what_is_shared_with_it_and_nothing_else() {
    let scene = Scene::new().await;
    let began = scene.share("notes", &scene.bob, READ).await;
    let found = scene.found_by(&scene.bob).await;
    assert_eq!((names(&found), found.user.as_str()), (vec!["notes"], "ann"));
    let mounted = &found.channels[0].stores[0];
    let claims = store_claims(&mounted.token, &scene.confirm, scene.store.id);
    assert_eq!((claims.sub.as_str(), claims.channel.as_str()), ("ann", "notes"));
    assert_eq!((claims.permission, mounted.permission), (READ, READ));
    assert_eq!((claims.sid, claims.share), (scene.bob.session.session.id, Some(began)));
    assert_eq!(scene.check(&mounted.token).await.status(), 200);
    refused_as(ErrorCode::UnknownChannel, scene.at_ann(Method::GET, "/table/photos", &scene.bob).await).await;
    refused_as(ErrorCode::UnknownChannel, scene.at_ann(Method::GET, "/table/photos/guest", &scene.bob).await).await;
    let own = scene.found_by(&scene.ann).await;
    assert_eq!(names(&own), ["notes", "photos"]);
    let claims = store_claims(&own.channels[0].stores[0].token, &scene.confirm, scene.store.id);
    assert_eq!((claims.permission, claims.share), (WRITE, None));
    assert_eq!(names(&scene.world.mounts(&scene.bob).await), [""; 0], "bobby's own table has none of it");
}

#[tokio::test]
async fn a_stranger_gets_nothing_alike_of_a_user_and_of_nobody() {
    let scene = Scene::new().await;
    scene.share("notes", &scene.bob, WRITE).await;
    let carol = &scene.carol;
    for owner in ["ann", "nobody"] {
        for path in ["/table", "/table/notes", "/table/stream", "/table/notes/guest"] {
            let path = format!("/user/{owner}{path}");
            let answer = scene.world.send(Method::GET, &path, &carol.bearer(), None::<&()>).await;
            refused_as(ErrorCode::Forbidden, answer).await;
        }
        let path = format!("/user/{owner}/table/notes/checkpoint");
        let answer = scene.world.send(Method::POST, &path, &carol.bearer(), Some(&json!({"logs": []}))).await;
        refused_as(ErrorCode::Forbidden, answer).await;
    }
    refused_as(ErrorCode::Forbidden, scene.try_share(carol, "notes", "carolyn", READ, false).await).await;
    refused_as(ErrorCode::Forbidden, scene.try_unshare(carol, "notes", "bobby").await).await;
    // What is the user's alone is no guest's either.
    for path in ["/shared", "/keyring", "/session", "/session/check"] {
        refused_as(ErrorCode::Unauthorized, scene.at_ann(Method::GET, path, &scene.bob).await).await;
    }
    let (mount, seal) = ("/table/notes", format!("/table/notes/store/{}", scene.store.id));
    for path in [mount, &seal] {
        refused_as(ErrorCode::Unauthorized, scene.at_ann(Method::DELETE, path, &scene.bob).await).await;
    }
    assert_eq!(scene.shared_with(carol).await.channels, []);
}

#[tokio::test]
async fn what_is_taken_back_is_told_to_the_store_within_a_second_and_the_rest_goes_on() {
    let mut scene = Scene::new().await;
    scene.share("notes", &scene.bob, WRITE).await;
    scene.share("photos", &scene.bob, READ).await;
    let (notes, photos) = (scene.token(&scene.bob, "notes").await, scene.token(&scene.bob, "photos").await);
    let own = scene.token(&scene.ann, "notes").await;
    let begun = Instant::now();
    let ended = scene.unshare("notes", &scene.bob).await;
    let heard = scene.revocation().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!((heard.sub.as_str(), heard.sid), ("ann", scene.bob.session.session.id));
    assert_eq!((heard.channel, heard.before), (Some(channel("notes")), Some(ended)));
    refused_as(ErrorCode::Revoked, scene.check(&notes).await).await;
    assert_eq!(scene.check(&photos).await.status(), 200);
    assert_eq!(scene.check(&own).await.status(), 200);
    assert_eq!(names(&scene.found_by(&scene.bob).await), ["photos"]);
    assert!(scene.store.heard.try_recv().is_err(), "one session and one channel");
    refused_as(ErrorCode::NotFound, scene.try_unshare(&scene.ann, "notes", "bobby").await).await;

    // Shared again, the new token stands, and is of a later share than the one that ended.
    let again = scene.share("notes", &scene.bob, WRITE).await;
    let token = scene.token(&scene.bob, "notes").await;
    let claims = store_claims(&token, &scene.confirm, scene.store.id);
    assert_eq!(claims.share, Some(again));
    assert!(again > ended);
    assert_eq!(scene.check(&token).await.status(), 200);
    refused_as(ErrorCode::Revoked, scene.check(&notes).await).await;
}

#[tokio::test]
async fn what_is_narrowed_ends_the_wider_tokens_and_what_is_widened_ends_none() {
    let mut scene = Scene::new().await;
    scene.share("notes", &scene.bob, READ).await;
    let read = scene.token(&scene.bob, "notes").await;
    scene.share("notes", &scene.bob, WRITE).await;
    assert_eq!(scene.check(&read).await.status(), 200);
    let write = scene.token(&scene.bob, "notes").await;
    assert!(scene.store.heard.try_recv().is_err(), "nothing was taken away");
    let narrowed = scene.share("notes", &scene.bob, READ).await;
    let heard = scene.revocation().await;
    assert_eq!((heard.channel, heard.before), (Some(channel("notes")), Some(narrowed)));
    refused_as(ErrorCode::Revoked, scene.check(&write).await).await;
    let now = scene.token(&scene.bob, "notes").await;
    let claims = store_claims(&now, &scene.confirm, scene.store.id);
    assert_eq!((claims.permission, claims.share), (READ, Some(narrowed)));
    assert_eq!(scene.check(&now).await.status(), 200);
}

#[tokio::test]
async fn a_channel_that_is_removed_is_taken_from_its_guests() {
    let mut scene = Scene::new().await;
    scene.share("notes", &scene.bob, WRITE).await;
    let token = scene.token(&scene.bob, "notes").await;
    let removed = epoch(scene.at_ann(Method::DELETE, "/table/notes", &scene.ann).await).await;
    let heard = scene.revocation().await;
    assert_eq!((heard.sid, heard.before), (scene.bob.session.session.id, Some(removed)));
    assert_eq!(heard.channel, Some(channel("notes")));
    refused_as(ErrorCode::Revoked, scene.check(&token).await).await;
    refused_as(ErrorCode::Forbidden, scene.at_ann(Method::GET, "/table", &scene.bob).await).await;
    // One of the same name is not shared with those who were guests of the old one.
    scene.world.mount(&scene.ann, "notes", &scene.store).await;
    scene.store.hears_confirm().await;
    refused_as(ErrorCode::Forbidden, scene.at_ann(Method::GET, "/table/notes", &scene.bob).await).await;
    assert_eq!(scene.shared_with(&scene.bob).await.channels, []);
}

#[tokio::test]
async fn a_guests_session_that_ends_takes_its_tokens_with_it_at_the_owners_stores() {
    let mut scene = Scene::new().await;
    scene.share("notes", &scene.bob, READ).await;
    let other = scene.bob.with(scene.world.log_in("bobby", &scene.bob.master, 60).await);
    let (token, stays) = (scene.token(&other, "notes").await, scene.token(&scene.bob, "notes").await);
    scene.world.revoke(&scene.bob, other.session.session.id).await;
    let heard = scene.revocation().await;
    assert_eq!((heard.sub.as_str(), heard.sid), ("ann", other.session.session.id));
    assert_eq!((heard.channel, heard.before), (None, None));
    refused_as(ErrorCode::Revoked, scene.check(&token).await).await;
    assert_eq!(scene.check(&stays).await.status(), 200);
    refused_as(ErrorCode::Revoked, scene.at_ann(Method::GET, "/table", &other).await).await;
    // So does a new password.
    let new = new_master(&[9; 32]);
    let path = "/user/bobby/master";
    assert_eq!(scene.world.send(Method::PUT, path, &master_header(&scene.bob.master), Some(&new)).await.status(), 204);
    assert_eq!(scene.revocation().await.sid, scene.bob.session.session.id);
    refused_as(ErrorCode::Revoked, scene.check(&stays).await).await;
}

#[tokio::test]
async fn a_store_that_was_down_hears_of_what_was_taken_back_last_once_it_is_back() {
    let mut scene = Scene::new().await;
    scene.share("notes", &scene.bob, WRITE).await;
    scene.store.go_down().await;
    scene.unshare("notes", &scene.bob).await;
    scene.share("notes", &scene.bob, WRITE).await;
    let last = scene.unshare("notes", &scene.bob).await;
    scene.world.stop().await;
    scene.store.come_back().await;
    scene.world.restart_stopped().await;
    assert_eq!(scene.revocation().await.before, Some(last));
}

#[tokio::test]
async fn a_store_that_goes_is_told_to_end_guests_too() {
    let mut scene = Scene::new().await;
    let mut second = StoreSide::start(2).await;
    scene.world.mount(&scene.ann, "notes", &second).await;
    let (_, confirm) = second.hears_confirm().await;
    scene.share("notes", &scene.bob, WRITE).await;
    assert_eq!(scene.world.remove(&scene.ann, "notes", second.id, "?abandon=true").await.status(), 200);
    let heard = [second.hears_revoke(&confirm).await, second.hears_revoke(&confirm).await];
    assert!(heard.contains(&scene.ann.session.session.id) && heard.contains(&scene.bob.session.session.id));
    assert!(scene.store.heard.try_recv().is_err(), "at the other store nothing ended");
}

#[tokio::test]
async fn streams_tell_a_guest_of_changes_and_end_when_nothing_is_shared_any_more() {
    let scene = Scene::new().await;
    let mut own = scene.world.stream(&scene.bob).await;
    assert_eq!(own.next().await.unwrap().epoch, 0);
    let shared = scene.share("notes", &scene.bob, READ).await;
    assert_eq!(own.next().await.unwrap().epoch, 1, "that something is shared is a change of the guest's own table");
    let as_guest = Person { name: "ann".to_owned(), ..scene.bob.clone() };
    let mut anns = scene.world.stream(&as_guest).await;
    assert_eq!(anns.next().await.unwrap().epoch, shared);
    let second = StoreSide::start(2).await;
    scene.world.mount(&scene.ann, "notes", &second).await;
    assert_eq!(anns.next().await.unwrap().epoch, shared + 1);
    scene.unshare("notes", &scene.bob).await;
    assert_eq!(anns.next().await.unwrap().epoch, shared + 2);
    assert_eq!(anns.next().await, None);
    assert_eq!(own.next().await.unwrap().epoch, 2);
}

#[tokio::test]
async fn guests_who_may_write_commit_checkpoints_and_readers_do_not() {
    let scene = Scene::new().await;
    let ask = json!({"logs": [{"type": "counter", "path": "/a"}]});
    let path = "/user/ann/table/notes/checkpoint";
    scene.share("notes", &scene.bob, WRITE).await;
    scene.share("notes", &scene.carol, READ).await;
    let answer = scene.world.send(Method::POST, path, &scene.bob.bearer(), Some(&ask)).await;
    assert_eq!(answer.json::<CommitResults>().await.unwrap().logs.len(), 1);
    let answer = scene.world.send(Method::POST, path, &scene.carol.bearer(), Some(&ask)).await;
    refused_as(ErrorCode::Forbidden, answer).await;
    let photos = "/user/ann/table/photos/checkpoint";
    let answer = scene.world.send(Method::POST, photos, &scene.bob.bearer(), Some(&ask)).await;
    refused_as(ErrorCode::UnknownChannel, answer).await;
}

#[tokio::test]
async fn an_admin_lets_others_in_and_out_who_are_no_admins_and_any_guest_may_leave() {
    let scene = Scene::new().await;
    let (bob, carol) = (&scene.bob, &scene.carol);
    let dave = scene.world.person("dave-jones").await;
    scene.share("notes", bob, WRITE).await;
    refused_as(ErrorCode::Forbidden, scene.try_share(bob, "notes", "carolyn", READ, false).await).await;
    epoch(scene.try_share(&scene.ann, "notes", "bobby", WRITE, true).await).await;
    epoch(scene.try_share(bob, "notes", "carolyn", WRITE, false).await).await;
    refused_as(ErrorCode::Forbidden, scene.try_share(bob, "notes", "carolyn", WRITE, true).await).await;
    refused_as(ErrorCode::Forbidden, scene.try_share(bob, "notes", "bobby", READ, false).await).await;
    refused_as(ErrorCode::UnknownChannel, scene.try_share(bob, "photos", "carolyn", READ, false).await).await;
    epoch(scene.try_share(&scene.ann, "notes", "dave-jones", WRITE, true).await).await;
    refused_as(ErrorCode::Forbidden, scene.try_unshare(bob, "notes", "dave-jones").await).await;
    refused_as(ErrorCode::Forbidden, scene.try_share(bob, "notes", "dave-jones", READ, false).await).await;
    refused_as(ErrorCode::Forbidden, scene.try_unshare(carol, "notes", "bobby").await).await;
    let guests = scene.at_ann(Method::GET, "/table/notes/guest", carol).await.json::<Guests>().await.unwrap().guests;
    let entry = |name, permission, admin| GuestEntry { user: user(name), permission, admin };
    assert_eq!(guests, [entry("bobby", WRITE, true), entry("carolyn", WRITE, false), entry("dave-jones", WRITE, true)]);
    epoch(scene.try_unshare(bob, "notes", "carolyn").await).await;
    epoch(scene.try_unshare(&dave, "notes", "dave-jones").await).await;
    refused_as(ErrorCode::Forbidden, scene.at_ann(Method::GET, "/table", &dave).await).await;
    assert_eq!(names(&scene.found_by(bob).await), ["notes"]);
}

#[tokio::test]
async fn what_is_shared_comes_with_its_newest_grant_and_one_of_older_keys_or_for_somebody_else_is_refused() {
    let scene = Scene::new().await;
    let secret = |byte| Secret::from_bytes([byte; 32]);
    let [anns, bobs] = [1, 3].map(|byte| Identity::from_secrets(&secret(byte), secret(byte + 1)));
    let grant = |grantee: &str, random: u8| {
        let keys = ChannelKeys::new(secret(7), secret(8));
        let to = (user(grantee), bobs.public());
        let grant = Grant::seal(&anns, user("ann"), channel("notes"), to, &keys, secret(random)).unwrap();
        Guest { permission: READ, admin: false, grant: grant.to_bytes() }
    };
    let (first, second) = (grant("bobby", 9), grant("bobby", 10));
    for new in [&first, &second] {
        epoch(scene.put(&scene.ann, "notes", "bobby", new).await).await;
        let shared = scene.shared_with(&scene.bob).await.channels;
        assert_eq!(shared.len(), 1);
        assert_eq!((shared[0].owner.as_str(), shared[0].channel.as_str()), ("ann", "notes"));
        assert_eq!((&shared[0].grant, shared[0].permission, shared[0].admin), (&new.grant, READ, false));
    }
    let put = async |guest: &str, body: &Guest| refused(scene.put(&scene.ann, "notes", guest, body).await).await.code;
    assert_eq!(put("bobby", &grant("carolyn", 9)).await, ErrorCode::BadRequest);
    assert_eq!(put("bobby", &Guest { grant: vec![1, 2, 3], ..first.clone() }).await, ErrorCode::BadRequest);
    assert_eq!(put("bobby", &Guest { grant: vec![0; 65 * 1024], ..first.clone() }).await, ErrorCode::TooLarge);
    let later = |epochs: usize| {
        let mut keys = ChannelKeys::new(secret(7), secret(8));
        (0..epochs).for_each(|_| _ = keys.rotate(secret(11)).unwrap());
        let to = (user("bobby"), bobs.public());
        let grant = Grant::seal(&bobs, user("ann"), channel("notes"), to, &keys, secret(12)).unwrap();
        let word = (user("bobby"), *bobs.public());
        let word = anns.grant_membership((&user("ann"), &channel("notes")), word, Some(Role::Admin), Date::EPOCH);
        Guest { permission: READ, admin: false, grant: Invitation::new(grant, Some(word)).to_bytes() }
    };
    let newest = later(2);
    epoch(scene.put(&scene.ann, "notes", "bobby", &newest).await).await;
    for older in [&later(1), &second] {
        assert_eq!(put("bobby", older).await, ErrorCode::Conflict);
    }
    let plain = Guest { grant: Vec::new(), ..first.clone() };
    assert_eq!(put("ann", &plain).await, ErrorCode::BadRequest);
    assert_eq!(put("nobody", &plain).await, ErrorCode::UnknownUser);
    assert_eq!(put("bobby", &Guest { admin: true, ..plain.clone() }).await, ErrorCode::BadRequest);
    let answer = scene.put(&scene.ann, "none", "bobby", &plain).await;
    refused_as(ErrorCode::UnknownChannel, answer).await;
    assert_eq!(scene.shared_with(&scene.bob).await.channels[0].grant, newest.grant, "nothing was changed");
}

#[tokio::test]
async fn an_identity_is_kept_by_its_user_and_given_to_any_session() {
    let scene = Scene::new().await;
    let (ann, carol) = (&scene.ann, &scene.carol);
    refused_as(ErrorCode::NotFound, scene.at_ann(Method::GET, "/identity", carol).await).await;
    let secret = |byte| Secret::from_bytes([byte; 32]);
    let of = |byte| Identity::from_secrets(&secret(byte), secret(byte + 1)).public().to_bytes();
    for identity in [of(1), of(3)] {
        let record = IdentityRecord { identity };
        let put = scene.world.send(Method::PUT, "/user/ann/identity", &ann.bearer(), Some(&record)).await;
        assert_eq!(put.status(), 204);
        let found = scene.at_ann(Method::GET, "/identity", carol).await;
        assert_eq!(found.json::<IdentityRecord>().await.unwrap(), record);
        let put = scene.world.send(Method::PUT, "/user/ann/identity", &carol.bearer(), Some(&record)).await;
        refused_as(ErrorCode::Unauthorized, put).await;
    }
    let broken = IdentityRecord { identity: of(1)[1..].to_vec() };
    let put = scene.world.send(Method::PUT, "/user/ann/identity", &ann.bearer(), Some(&broken)).await;
    refused_as(ErrorCode::BadRequest, put).await;
    let unknown = scene.world.send(Method::GET, "/user/nobody/identity", &carol.bearer(), None::<&()>).await;
    refused_as(ErrorCode::UnknownUser, unknown).await;
    let nobody = scene.world.send(Method::GET, "/user/ann/identity", "Bearer x", None::<&()>).await;
    refused_as(ErrorCode::Unauthorized, nobody).await;
}

#[tokio::test]
async fn a_channel_has_so_many_guests_and_no_more() {
    let scene = Scene::new().await;
    for number in 0..=256 {
        let name = format!("guest-{number}");
        scene.world.table.create_user(&user(&name), new_master(&[1; 32])).await.unwrap();
        let answer = scene.try_share(&scene.ann, "notes", &name, READ, false).await;
        match number {
            256 => drop(refused_as(ErrorCode::TooMany, answer).await),
            _ => drop(epoch(answer).await),
        }
    }
    // What one of them may do is still said anew.
    epoch(scene.try_share(&scene.ann, "notes", "guest-0", WRITE, false).await).await;
}

#[tokio::test]
async fn a_database_from_before_sharing_is_brought_to_it_with_what_its_stores_are_owed() {
    let mut scene = Scene::new().await;
    let other = scene.world.log_in("ann", &scene.ann.master, 60).await;
    scene.store.go_down().await;
    scene.world.revoke(&scene.ann, other.session.id).await;
    scene.world.stop().await;
    let connection = rusqlite::Connection::open(scene.world.config.data_dir.join("table.db")).unwrap();
    connection.execute_batch(BEFORE_SHARING).unwrap();
    connection.pragma_update(None, "user_version", 3).unwrap();
    drop(connection);
    scene.store.come_back().await;
    scene.world.restart_stopped().await;
    assert_eq!(scene.store.hears_revoke(&scene.confirm).await, other.session.id);
    scene.share("notes", &scene.bob, READ).await;
    assert_eq!(names(&scene.found_by(&scene.bob).await), ["notes"]);
}
