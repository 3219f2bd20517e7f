//! Short wire worlds. The binary plays longer ones, and more of them.

use std::process::Command;

use serde_json::Value;

#[test]
fn wire_worlds_of_the_first_seeds_hold_together() {
    let args = ["--seeds", "6", "--steps", "40", "--jobs", "2", "--json"];
    let output = Command::new(env!("CARGO_BIN_EXE_wire")).args(args).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["violations"], serde_json::json!([]), "{report:#}");
    assert!(output.status.success());
    assert!(report["writes"].as_u64().unwrap() > 0 && report["checks"].as_u64().unwrap() > 0, "{report}");
}
