//! Databases as released versions wrote them, in `testdata/vN/`: each is read by every later version, and goes on.

use std::fs;
use std::path::{Path, PathBuf};

use gigfs_core::api::SessionList;

use crate::world::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

#[tokio::test]
async fn what_every_released_version_wrote_is_read_and_goes_on() {
    let mut read = 0;
    for version in fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()) {
        let database = version.join("table.db");
        let put = |folder: &Path| {
            fs::create_dir_all(folder).unwrap();
            fs::copy(&database, folder.join("table.db")).unwrap();
        };
        let world = World::start_with(|config| put(&config.data_dir)).await;
        // As `World::person` makes it of the name.
        let master = vec![3; 32];
        let session = world.log_in("ann", &master, 60).await;
        let ann = Person { name: "ann".to_owned(), master, session };
        let mounts = world.mounts(&ann).await;
        assert_eq!((mounts.epoch, mounts.channels[0].channel.as_str()), (1, "notes"), "{}", version.display());
        let sessions = world.get::<SessionList>("/session", &ann).await.sessions;
        assert!(!sessions.is_empty() && !mounts.channels[0].stores[0].token.is_empty());
        world.person("bob").await;
        read += 1;
    }
    assert!(read > 0, "there are no fixtures");
}

#[tokio::test]
#[ignore = "writes the fixture of a new format: GIGFS_FIXTURES=v2 cargo test -p gigfs-table-server --test table writes_the_fixture -- --ignored"]
async fn writes_the_fixture_of_a_version() {
    let folder = fixtures().join(std::env::var("GIGFS_FIXTURES").unwrap());
    assert!(!folder.exists(), "fixtures are never changed");
    let mut world = World::start().await;
    let ann = world.person("ann").await;
    let mut store = StoreSide::start(1).await;
    world.mount(&ann, "notes", &store).await;
    store.hears_confirm().await;
    world.stop().await;
    fs::create_dir_all(&folder).unwrap();
    fs::copy(world.config.data_dir.join("table.db"), folder.join("table.db")).unwrap();
}
