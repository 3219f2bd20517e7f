//! The audit log of a table: what was done by whom, and from where.

use gigfs_core::api::Guest;
use gigfs_core::token::Permission;
use reqwest::Method;
use serde_json::Value;

use crate::world::*;

fn entries(world: &World) -> Vec<Value> {
    let text = std::fs::read_to_string(world.config.data_dir.join("audit.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["event"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_is_done_is_written_down_once_and_in_order() {
    let mut world = World::start().await;
    let ann = world.person("ann").await;
    refused(world.try_log_in("ann", &[9; 32], 60).await).await;
    refused(world.try_log_in("hunter2", &[9; 32], 60).await).await;
    refused(world.send(Method::PUT, "/admin/user/x", "Bearer guess", Some(&new_master(&[1; 32]))).await).await;
    let (one, two) = (StoreSide::start(1).await, StoreSide::start(2).await);
    world.mount(&ann, "notes", &one).await;
    world.mount(&ann, "notes", &two).await;
    assert_eq!(world.seal(&ann, "notes", two.id, true).await.status(), 200);
    assert_eq!(world.remove(&ann, "notes", two.id, "").await.status(), 200);
    assert_eq!(world.ask(Method::DELETE, "/table/notes", &ann).await.status(), 200);
    let other = ann.with(world.log_in("ann", &ann.master, 60).await);
    world.revoke(&ann, other.session.session.id).await;
    let path = "/user/ann/master";
    let replaced = world.send(Method::PUT, path, &master_header(&ann.master), Some(&new_master(&[4; 32]))).await;
    assert_eq!(replaced.status(), 204);

    let written = entries(&world);
    assert_eq!(
        events(&written),
        [
            "user_created",
            "logged_in",
            "login_failed",
            "login_failed",
            "admin_refused",
            "store_mounted",
            "store_mounted",
            "channel_sealed",
            "store_unmounted",
            "channel_removed",
            "logged_in",
            "session_revoked",
            "master_replaced",
        ]
    );
    let session = serde_json::to_value(ann.session.session.id).unwrap();
    assert_eq!((&written[1]["user"], &written[1]["session"]), (&Value::from("ann"), &session));
    assert_eq!(written[1]["from"], "127.0.0.1");
    assert_eq!(written[2]["user"], "ann");
    assert_eq!(written[3]["user"], Value::Null, "what nobody is called may be a password");
    assert_eq!((&written[5]["url"], &written[5]["by"]), (&Value::from(one.url.as_str()), &session));
    assert_eq!((&written[8]["abandoned"], &written[7]["sealed"]), (&false.into(), &true.into()));
    assert_eq!(written[11]["by"], session);
    assert!(written.is_sorted_by_key(|entry| entry["at"].as_u64()));

    world.restart().await;
    assert_eq!(entries(&world), written, "it goes on where it was");
    let bob = world.person("bob").await;
    assert_eq!(events(&entries(&world)[written.len()..]), ["user_created", "logged_in"]);
    drop(bob);
}

#[tokio::test]
async fn what_is_shared_with_whom_is_written_down_without_the_keys() {
    let world = World::start().await;
    let (ann, bob) = (world.person("ann").await, world.person("bobby").await);
    world.mount(&ann, "notes", &StoreSide::start(1).await).await;
    let path = "/user/ann/table/notes/guest/bobby";
    let body = Guest { permission: Permission::Write, admin: true, grant: Vec::new() };
    assert_eq!(world.send(Method::PUT, path, &ann.bearer(), Some(&body)).await.status(), 200);
    assert_eq!(world.send(Method::DELETE, path, &bob.bearer(), None::<&()>).await.status(), 200);
    let written = entries(&world);
    let (shared, unshared) = (&written[written.len() - 2], &written[written.len() - 1]);
    assert_eq!((&shared["event"], &unshared["event"]), (&"channel_shared".into(), &"channel_unshared".into()));
    for entry in [shared, unshared] {
        assert_eq!(
            (&entry["user"], &entry["channel"], &entry["guest"]),
            (&"ann".into(), &"notes".into(), &"bobby".into())
        );
    }
    assert_eq!((&shared["permission"], &shared["admin"]), (&"write".into(), &true.into()));
    let by = |person: &Person| serde_json::to_value(person.session.session.id).unwrap();
    assert_eq!((&shared["by"], &unshared["by"]), (&by(&ann), &by(&bob)));
    assert!(shared.get("grant").is_none());
}
