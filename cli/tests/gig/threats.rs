//! Every test that `docs/threats.md` and `docs/attacks.md` name is there.

use std::fs;
use std::path::Path;

/// Adds the text of all Rust files below a folder.
fn add_sources(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            add_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// Reads all Rust files in which tests may be.
fn sources() -> String {
    let root = root();
    let mut sources = String::new();
    for folder in
        ["core", "storage", "client", "serve", "table-server", "store-server", "cli", "fuzz/laws", "reducers", "sim"]
    {
        add_sources(&root.join(folder), &mut sources);
    }
    sources
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Looks for every test that the last column of a text's tables names, and returns how many rows and names there are.
fn look_for_tests_of(text: &str, sources: &str) -> (usize, usize) {
    let text = fs::read_to_string(root().join("docs").join(text)).unwrap();
    let heads = ["| promise", "| attack"];
    let is_row = |line: &&str| line.starts_with("| ") && !heads.iter().any(|head| line.starts_with(head));
    let (mut rows, mut named) = (0, 0);
    for row in text.lines().filter(is_row) {
        let shown_by = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert!(shown_by.contains('`') || shown_by.starts_with("the "), "no test is named: {row}");
        for name in shown_by.split('`').skip(1).step_by(2) {
            match name.strip_suffix("::*") {
                Some(module) => assert!(sources.contains(&format!("mod {module}")), "there is no module {module}"),
                None if name.contains('_') => {
                    assert!(sources.contains(&format!("fn {name}(")), "there is no test {name}");
                    named += 1;
                }
                None => {}
            }
        }
        rows += 1;
    }
    (rows, named)
}

#[test]
fn each_promise_and_each_attack_names_tests_that_there_are() {
    let sources = sources();
    let (rows, named) = look_for_tests_of("threats.md", &sources);
    assert!(rows > 20 && named > 30, "{rows} promises, {named} tests");
    let (rows, named) = look_for_tests_of("attacks.md", &sources);
    assert!(rows > 30 && named > 60, "{rows} attacks, {named} tests");
}
