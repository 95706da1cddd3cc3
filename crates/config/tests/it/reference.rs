//! The reference is that of this table.

use pgark_config::reference_markdown;

#[test]
fn the_reference_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference.md");
    let kept = fs_err::read_to_string(path).unwrap();
    assert!(kept == reference_markdown(), "run 'cargo run -p xtask -- reference'");
}

#[test]
fn every_block_is_parted_from_the_next_by_one_empty_line() {
    let page = reference_markdown();
    assert!(!page.contains("\n\n\n") && page.ends_with(".\n") && page.is_ascii());
}
