//! Seals: a store is sealed before it leaves a channel that has others, and open when it comes back.

use gigfs_core::ErrorCode;
use gigfs_core::api::{AddStore, Confirm, MountedChannel, TableChanged};
use reqwest::Method;

use crate::world::*;

/// A person with one channel at two stores.
struct Shared {
    world: World,
    ann: Person,
    one: StoreSide,
    two: StoreSide,
    confirm: Confirm,
}

impl Shared {
    async fn start() -> Self {
        let world = World::start().await;
        let ann = world.person("ann").await;
        let (mut one, mut two) = (StoreSide::start(1).await, StoreSide::start(2).await);
        world.mount(&ann, "notes", &one).await;
        world.mount(&ann, "notes", &two).await;
        let (_, confirm) = one.hears_confirm().await;
        two.hears_confirm().await;
        Self { world, ann, one, two, confirm }
    }

    async fn seal_one(&self) {
        assert_eq!(self.world.seal(&self.ann, "notes", self.one.id, true).await.status(), 200);
    }

    /// Whether each store of the channel is shown as sealed.
    async fn sealed(&self) -> Vec<bool> {
        let channel: MountedChannel = self.world.get("/table/notes", &self.ann).await;
        channel.stores.iter().map(|store| store.sealed).collect()
    }
}

#[tokio::test]
async fn a_store_that_agrees_is_shown_sealed_and_open_again() {
    let mut it = Shared::start().await;
    let mut events = it.world.stream(&it.ann).await;
    assert_eq!(events.next().await.unwrap().epoch, 2);
    for (sealed, epoch) in [(true, 3), (false, 4)] {
        let answer = it.world.seal(&it.ann, "notes", it.one.id, sealed).await;
        assert_eq!(answer.json::<TableChanged>().await.unwrap().epoch, epoch);
        assert_eq!(it.one.hears_seal(&it.confirm).await.sealed, sealed);
        assert_eq!(events.next().await.unwrap().epoch, epoch);
        let table = it.world.mounts(&it.ann).await;
        assert_eq!((table.epoch, table.channels[0].epoch), (epoch, 2), "the set of stores is the same");
        assert_eq!(it.sealed().await, [sealed, false]);
    }
    assert!(it.two.heard.try_recv().is_err(), "the other store heard of it");
}

#[tokio::test]
async fn a_seal_survives_a_restart_and_is_asked_for_again_without_a_change() {
    let mut it = Shared::start().await;
    it.seal_one().await;
    it.one.hears_seal(&it.confirm).await;
    it.world.restart().await;
    assert_eq!(it.sealed().await, [true, false]);
    it.seal_one().await;
    assert!(it.one.hears_seal(&it.confirm).await.sealed, "a store that forgot is told again");
    assert_eq!(it.world.mounts(&it.ann).await.epoch, 3);
}

#[tokio::test]
async fn a_store_that_refuses_or_is_not_there_leaves_everything_as_it_was() {
    let mut it = Shared::start().await;
    it.one.refuse_seal(true);
    let refusal = refused(it.world.seal(&it.ann, "notes", it.one.id, true).await).await;
    assert!(refusal.message.contains(&it.one.url) && refusal.message.contains("the disk failed"), "{refusal}");
    it.two.go_down().await;
    let refusal = refused_as(ErrorCode::Unreachable, it.world.seal(&it.ann, "notes", it.two.id, true).await).await;
    assert!(refusal.message.contains(&it.two.url), "{refusal}");
    assert_eq!(it.sealed().await, [false, false]);
    assert_eq!(it.world.mounts(&it.ann).await.epoch, 2);
}

#[tokio::test]
async fn only_a_store_of_the_channel_is_asked() {
    let mut it = Shared::start().await;
    let other = StoreSide::start(3).await;
    refused_as(ErrorCode::UnknownStore, it.world.seal(&it.ann, "notes", other.id, true).await).await;
    refused_as(ErrorCode::UnknownChannel, it.world.seal(&it.ann, "photos", it.one.id, true).await).await;
    let bob = it.world.person("bobby").await;
    refused_as(ErrorCode::UnknownChannel, it.world.seal(&bob, "notes", it.one.id, true).await).await;
    let nobody = Person { name: "ann".to_owned(), ..bob };
    refused_as(ErrorCode::Unauthorized, it.world.seal(&nobody, "notes", it.one.id, true).await).await;
    assert!(it.one.heard.try_recv().is_err(), "the store heard of it");
}

#[tokio::test]
async fn a_store_that_takes_writes_is_not_removed_from_a_channel_that_has_others() {
    let it = Shared::start().await;
    for how in ["", "?abandon=false"] {
        let refusal = refused_as(ErrorCode::Conflict, it.world.remove(&it.ann, "notes", it.one.id, how).await).await;
        assert!(refusal.message.contains(&it.one.id.to_string()), "{refusal}");
        assert!(refusal.hint.contains("gig store rm") && refusal.hint.contains("abandon"), "{refusal:?}");
    }
    refused_as(ErrorCode::BadRequest, it.world.remove(&it.ann, "notes", it.one.id, "?abandon=yes").await).await;
    assert_eq!(it.world.mounts(&it.ann).await.epoch, 2);

    it.seal_one().await;
    let gone = it.world.remove(&it.ann, "notes", it.one.id, "").await;
    assert_eq!(gone.json::<TableChanged>().await.unwrap().epoch, 4);
    let channel: MountedChannel = it.world.get("/table/notes", &it.ann).await;
    assert_eq!((channel.epoch, channel.stores.len()), (4, 1));
    assert_eq!(it.world.remove(&it.ann, "notes", it.two.id, "").await.status(), 200, "the last store needs no seal");
}

#[tokio::test]
async fn a_store_that_is_gone_is_abandoned_without_being_asked() {
    let mut it = Shared::start().await;
    it.one.go_down().await;
    assert_eq!(it.world.remove(&it.ann, "notes", it.one.id, "?abandon=true").await.status(), 200);
    assert_eq!(it.world.mounts(&it.ann).await.channels[0].stores[0].id, it.two.id);
}

#[tokio::test]
async fn a_channel_as_a_whole_is_removed_without_a_seal() {
    let it = Shared::start().await;
    assert_eq!(it.world.ask(Method::DELETE, "/table/notes", &it.ann).await.status(), 200);
    assert!(it.world.mounts(&it.ann).await.channels.is_empty());
}

#[tokio::test]
async fn a_store_that_is_mounted_with_a_code_is_open_on_all_channels() {
    let it = Shared::start().await;
    it.seal_one().await;
    assert!(it.world.mount(&it.ann, "notes", &it.one).await.stores.iter().all(|store| !store.sealed));
    assert_eq!(it.world.mounts(&it.ann).await.epoch, 4);
    it.seal_one().await;
    it.world.mount(&it.ann, "photos", &it.one).await;
    assert_eq!(it.sealed().await, [false, false], "the store opened what it had sealed when it was confirmed");
}

#[tokio::test]
async fn a_store_that_comes_back_without_a_code_is_opened_first() {
    let mut it = Shared::start().await;
    it.world.mount(&it.ann, "photos", &it.one).await;
    it.one.hears_confirm().await;
    it.seal_one().await;
    assert!(it.one.hears_seal(&it.confirm).await.sealed);
    assert_eq!(it.world.remove(&it.ann, "notes", it.one.id, "").await.status(), 200);

    let bare = AddStore { store_url: it.one.url.clone(), code: None };
    let table = it.world.table.clone();
    let add = async || table.add_store(&user("ann"), &channel("notes"), bare.clone()).await;
    it.one.refuse_seal(true);
    add().await.unwrap_err();
    it.one.hears_seal(&it.confirm).await;
    assert_eq!(it.sealed().await, [false], "a store that does not open is not mounted");
    it.one.refuse_seal(false);
    add().await.unwrap();
    let claims = it.one.hears_seal(&it.confirm).await;
    assert_eq!((claims.sealed, claims.channel.as_str()), (false, "notes"));
    assert_eq!(it.sealed().await, [false, false]);
}

#[tokio::test]
async fn a_mounted_store_that_is_put_again_without_a_code_is_open_on_that_channel_only() {
    let it = Shared::start().await;
    it.world.mount(&it.ann, "photos", &it.one).await;
    it.seal_one().await;
    assert_eq!(it.world.seal(&it.ann, "photos", it.one.id, true).await.status(), 200);
    let bare = AddStore { store_url: it.one.url.clone(), code: None };
    it.world.table.add_store(&user("ann"), &channel("notes"), bare).await.unwrap();
    assert_eq!(it.sealed().await, [false, false]);
    assert!(it.world.get::<MountedChannel>("/table/photos", &it.ann).await.stores[0].sealed);
}
