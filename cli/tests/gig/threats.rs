//! Every test that `docs/threats.md` names is there.

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

#[test]
fn each_promise_names_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let mut sources = String::new();
    for folder in ["core", "storage", "client", "serve", "table-server", "store-server", "cli"] {
        add_sources(&root.join(folder), &mut sources);
    }
    let rows: Vec<&str> =
        text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise")).collect();
    assert!(rows.len() > 20, "{} rows", rows.len());
    let mut named = 0;
    for row in rows {
        let shown_by = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for name in shown_by.split('`').skip(1).step_by(2) {
            match name.strip_suffix("::*") {
                Some(module) => assert!(sources.contains(&format!("mod {module}")), "there is no module {module}"),
                None if name.contains('_') => {
                    assert!(sources.contains(&format!("fn {name}()")), "there is no test {name}");
                    named += 1;
                }
                None => {}
            }
        }
    }
    assert!(named > 30, "{named} tests");
}
