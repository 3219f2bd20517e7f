use super::*;
use crate::laws::{self, Fold, Step};
use proptest::prelude::*;
use serde_json::json;

fn intents() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => (0..9).prop_map(|value| json!({"append": value})),
        3 => (0..6_u64, 0..9).prop_map(|(index, value)| json!({"insert": [index, value]})),
        2 => (0..6_u64).prop_map(|index| json!({"remove": index})),
        1 => (0..9).prop_map(|value| json!({"remove_value": value})),
    ]
}

laws::hold!(
    List,
    intents(),
    [
        json!({"append": 1, "after": null}),
        json!({"insert": 1}),
        json!({"insert": 1, "after": "x"}),
        json!({"remove": -1}),
        json!({"remove": 1_000}),
        json!({"remove_value": "nowhere"}),
        json!(null)
    ]
);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changes_posted_as_typed_converge(
        steps in laws::script(intents()), typed in any::<[bool; 24]>(), priorities in laws::priorities()
    ) {
        let post = |(step, typed): (&Step, bool)| if typed { step.posted() } else { step.clone() };
        let steps: Vec<_> = steps.iter().zip(typed).map(post).collect();
        laws::arrival_order_does_not_matter(&List, &steps, &priorities)?;
    }
}

#[test]
fn a_list_behaves_as_a_vector_does_for_one_author() {
    let mut fold = Fold::new(List);
    fold.write(1, json!({"append": "b"}));
    fold.write(2, json!({"append": null}));
    fold.write(3, json!({"insert": [0, "a"]}));
    fold.write(4, json!({"insert": [3, "d"]}));
    fold.write(5, json!({"insert": [2, "b2"]}));
    assert_eq!(fold.view(), json!(["a", "b", "b2", null, "d"]));
    fold.write(6, json!({"remove": 3}));
    fold.write(7, json!({"remove_value": "b"}));
    assert_eq!(fold.view(), json!(["a", "b2", "d"]));
    fold.write(8, json!({"append": "e"}));
    fold.write(9, json!({"insert": [0, "0"]}));
    assert_eq!(fold.view(), json!(["0", "a", "b2", "d", "e"]));
}

#[test]
fn an_index_that_is_not_there_is_refused_with_a_sentence() {
    let mut fold = Fold::new(List);
    fold.write(1, json!({"append": 1}));
    let error = fold.try_write(2, json!({"remove": 1})).unwrap_err();
    assert_eq!(error, "the list has 1 elements, and the change is about number 1");
    assert!(fold.try_write(2, json!({"insert": [2, 0]})).is_err());
}

#[test]
fn an_insert_stands_first_until_the_element_arrives_that_it_stands_behind() {
    let mut author = Fold::by(1, List);
    let first = author.write(1, json!({"append": 1}));
    let second = author.write(2, json!({"insert": [1, 2]}));
    let third = author.write(3, json!({"insert": [2, 3]}));
    let gone = author.write(4, json!({"remove": 0}));
    let mut late = Fold::by(2, List);
    late.hear(&gone);
    assert_eq!(late.view(), json!([]));
    late.hear(&third);
    assert_eq!(late.view(), json!([3]));
    let mut late = late.reopened();
    late.hear(&second);
    assert_eq!(late.view(), json!([2, 3]));
    late.hear(&first);
    assert_eq!(late.view(), json!([2, 3]));
    assert_eq!(late.encoded(), author.encoded());
}

#[test]
fn a_late_append_takes_the_place_that_its_date_gives_it() {
    let (mut here, mut there) = (Fold::by(1, List), Fold::by(2, List));
    let late = there.write(10, json!({"append": "there"}));
    here.write(5, json!({"append": "first"}));
    here.write(20, json!({"append": "last"}));
    here.hear(&late);
    assert_eq!(here.view(), json!(["first", "there", "last"]));
}

#[test]
fn ten_thousand_inserts_behind_each_other_neither_recurse_nor_crawl() {
    let reducer = List;
    let mut state = reducer.initial();
    let mut after = None;
    for number in 0..10_000_u64 {
        let sha = Sha::of(&number.to_be_bytes());
        let date = gigfs_core::Date::saturating(number);
        let actor = gigfs_core::ActorId::from_bytes([1; 16]);
        let meta = Meta { sha, actor, seq: gigfs_core::Seq::new(number + 1).unwrap(), date };
        reducer.apply(&mut state, ListChange::InsertAfter { insert: number.into(), after }, &meta).unwrap();
        after = Some(sha);
    }
    assert_eq!(reducer.view(&state), json!((0..10_000_u64).collect::<Vec<_>>()));
}
